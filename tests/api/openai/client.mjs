// Drives the official JavaScript SDK: prints one JSON object with the result of each call.
import OpenAI, { APIError, toFile } from "openai";

const prompt = "A friendly dragon playing in a garden";
const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY });

async function errorOf(call) {
    try {
        await call();
    } catch (error) {
        if (!(error instanceof APIError)) throw error;
        return { status: error.status ?? null, code: error.code, type: error.type, requestID: Boolean(error.requestID) };
    }
    return null;
}

const scenarios = {
    async image() {
        const { data, response } = await client.images.generate({ prompt, size: "1024x1536" }).withResponse();
        return {
            image: data.data[0].b64_json.slice(0, 5),
            size: data.size,
            usage: data.usage.total_tokens,
            ids: response.headers.get("x-vga-request-ids"),
        };
    },
    async stream() {
        const events = [];
        for await (const event of await client.images.generate({ prompt, stream: true })) {
            events.push({ type: event.type, image: event.b64_json.slice(0, 5) });
        }
        return events;
    },
    async partialImages() {
        const events = [];
        for await (const event of await client.images.generate({ prompt, stream: true, partial_images: 1 })) {
            events.push({ type: event.type, image: event.b64_json.slice(0, 5), index: event.partial_image_index ?? null });
            if (process.env.RELEASE_URL) await fetch(process.env.RELEASE_URL, { method: "POST" });
        }
        return events;
    },
    streamError: () =>
        errorOf(async () => {
            for await (const _ of await client.images.generate({ prompt, stream: true }));
        }),
    error: () => errorOf(() => client.images.generate({ prompt, size: "large" })),
    failure: () => errorOf(() => client.images.generate({ prompt, vga: { metadata: { maxAttempts: 1 } } })),
    tooLong: () => errorOf(() => client.images.generate({ prompt }, { timeout: 2000 })),
    // The header says that the client waits for a minute, so it gives up before the server does, and sends the call again.
    async again() {
        const options = { timeout: 1000, headers: { "X-Stainless-Timeout": "60" } };
        return (await client.images.generate({ prompt }, options)).data.length;
    },
    async edit() {
        const image = await toFile(Buffer.from(process.env.IMAGE, "base64"), "pip.png", { type: "image/png" });
        const mask = await toFile(Buffer.from(process.env.MASK, "base64"), "mask.png", { type: "image/png" });
        const body = { image: [image, image], mask, prompt, vga: { priority: "high" } };
        return (await client.images.edit(body)).data[0].b64_json.slice(0, 5);
    },
    // As in `again`: the form has another boundary when it is sent again.
    async editAgain() {
        const image = await toFile(Buffer.from(process.env.IMAGE, "base64"), "pip.png", { type: "image/png" });
        const options = { timeout: 1000, headers: { "X-Stainless-Timeout": "60" } };
        return (await client.images.edit({ image, prompt }, options)).data.length;
    },
    async models() {
        const ids = [];
        for await (const model of client.models.list()) ids.push(model.id);
        return ids.includes((await client.models.retrieve("gpt-image-2")).id);
    },
};

console.log(JSON.stringify(await scenarios[process.env.SCENARIO]()));
