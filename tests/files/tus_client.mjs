// A stock tus client: sends a file whose connection is broken in the middle, and finds its way by itself.
// tus_client.mjs FOLDER_OF_MODULES URL TOKEN FILE: prints the address of the upload and how often it began to send.
import { createReadStream, statSync } from "node:fs";
import { createRequire } from "node:module";

const [modules, url, token, file] = process.argv.slice(2);
const tus = createRequire(`${modules}/`)("tus-js-client");
let requests = 0;

const upload = new tus.Upload(createReadStream(file), {
  endpoint: `${url}/api/v1/uploads`,
  headers: { Authorization: `Bearer ${token}` },
  metadata: { filename: "film.mp4", filetype: "video/mp4" },
  uploadSize: statSync(file).size,
  chunkSize: 4_000_000,
  retryDelays: [50, 100, 200, 400, 800, 1600, 3200],
  onBeforeRequest: (request) => { requests += request.getMethod() === "PATCH" ? 1 : 0; },
  onError: (error) => { console.error(String(error)); process.exit(1); },
  onSuccess: () => { console.log(JSON.stringify({ upload: upload.url, requests })); process.exit(0); },
});
upload.start();
