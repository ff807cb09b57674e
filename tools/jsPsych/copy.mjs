// Copies the files of jsPsych that the page of the human comparison loads into sweep/human/page/vendor/, and notes each
// one's version and SHA-256 there. Run it after `npm ci --ignore-scripts` in this folder: `node copy.mjs`.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const vendor = `${here}../../sweep/human/page/vendor/`;
const files = { "jspsych.js": "jspsych", "plugin-preload.js": "@jspsych/plugin-preload" };

mkdirSync(vendor, { recursive: true });
const noted = {};
for (const [name, module] of Object.entries(files)) {
  const { version } = JSON.parse(readFileSync(`${here}node_modules/${module}/package.json`, "utf8"));
  const built = readFileSync(`${here}node_modules/${module}/dist/index.browser.min.js`, "utf8");
  // The map lies on a server of somebody else, which developer tools would ask for it.
  const content = built.replace(/^\/\/# sourceMappingURL=.*\n?/m, "");
  writeFileSync(vendor + name, content);
  noted[name] = { module, version, sha256: createHash("sha256").update(content).digest("hex") };
}
writeFileSync(`${vendor}VENDOR.json`, `${JSON.stringify(noted, null, 2)}\n`);
