// Check this assigner against the golden vectors: node check.mjs [FILE]. Prints one line; exit code 1 on a mismatch.

import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";

import { assign, generations, keyOf, mix, ranges } from "./assigner.mjs";

const file = process.argv[2] ?? new URL("golden.json", import.meta.url);
const golden = JSON.parse(readFileSync(file, "utf8"));

/** Yield what is asked, what the assigner gives and what it should give, for every vector of the file. */
function* vectors() {
  for (const [text, key] of golden.hashes) yield [`hash of ${JSON.stringify(text)}`, String(keyOf(text)), key];
  for (const [x, mixed] of golden.mixes) yield [`mix of ${x}`, String(mix(BigInt(x))), mixed];
  for (const { definition, holdout, default_arm: defaultArm, phases, cases } of golden.assignments) {
    for (const [phase, expected] of phases.entries()) {
      const filled = ranges(definition, phase).filter(({ low, high }) => low < high);
      const found = {
        generation: generations(definition)[phase].generation,
        ranges: filled.map(({ arm, low, high }) => [arm, String(low), String(high)]),
      };
      yield [`phase ${phase} of ${definition.name}`, found, expected];
    }
    for (const { unit, phase, stored, forced, in_audience: inAudience, expect } of cases) {
      const found = assign(definition, phase, unit, { stored, forced, inAudience, holdout, defaultArm });
      yield [`unit ${JSON.stringify(unit)} in phase ${phase} of ${definition.name}`, found, expect];
    }
  }
}

let count = 0;
for (const [what, found, expected] of vectors()) {
  if (!isDeepStrictEqual(found, expected)) {
    console.log(`mismatch: ${what} is ${JSON.stringify(found)}, must be ${JSON.stringify(expected)}`);
    process.exit(1);
  }
  count += 1;
}
console.log(`all ${count} golden vectors hold`);
