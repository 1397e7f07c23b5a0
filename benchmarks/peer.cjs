// Loaded into the peer before its own file: a provider inside its process that answers as soon as ours does, so that
// neither side pays for a provider. INSTANT_SECONDS is how long a call takes.
const seconds = Number(process.env.INSTANT_SECONDS || 0);
const image = Buffer.alloc(256).toString('base64'); // as large as ours
globalThis.fetch = async () => {
  if (seconds) await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  return { json: async () => ({ data: [{ b64_json: image }] }) };
};
