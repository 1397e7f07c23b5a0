import "./composer.js";
import { load } from "./gallery.js";
import "./picker.js";
import { load as loadShelf } from "./shelf.js";

load();
loadShelf();
