import "./composer.js";
import { load } from "./gallery.js";

load();
