// The armlift traffic splitter in JavaScript, without dependencies; specification: ../splitter.md.
// All 64-bit arithmetic is in BigInt: right before fast. Check it with `node check.mjs`.

const SPAN = 1n << 64n;
const MASK = SPAN - 1n;
const wrap = (x) => x & MASK;

// ---- XXH3, 64 bit, seed 0 (xxHash specification, "XXH3 algorithm") ----

const P32_1 = 0x9E3779B1n, P32_2 = 0x85EBCA77n, P32_3 = 0xC2B2AE3Dn;
const P64_1 = 0x9E3779B185EBCA87n, P64_2 = 0xC2B2AE3D27D4EB4Fn, P64_3 = 0x165667B19E3779F9n;
const P64_4 = 0x85EBCA77C2B2AE63n, P64_5 = 0x27D4EB2F165667C5n;
const MX1 = 0x165667919E3779F9n, MX2 = 0x9FB21C651E98DF25n;

const SECRET = view(Uint8Array.from((
  "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f" +
  "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c" +
  "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8" +
  "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364" +
  "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e" +
  "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
).match(/../g), (pair) => parseInt(pair, 16)));

const STRIPE = 64;
const STRIPES_PER_BLOCK = (SECRET.byteLength - STRIPE) / 8;

function view(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const u64 = (data, at) => data.getBigUint64(at, true);
const u32 = (data, at) => BigInt(data.getUint32(at, true));
const rotl = (x, by) => wrap(x << by) | (x >> (64n - by));

/** The two halves of the 128-bit product, folded into one. */
function fold(a, b) {
  const product = a * b;
  return wrap(product) ^ (product >> 64n);
}

function swapBytes(x) {
  const data = new DataView(new ArrayBuffer(8));
  data.setBigUint64(0, x, true);
  return data.getBigUint64(0, false);
}

function avalanche(x) {
  x = wrap((x ^ (x >> 37n)) * MX1);
  return x ^ (x >> 32n);
}

function avalancheXxh64(x) {
  x = wrap((x ^ (x >> 33n)) * P64_2);
  x = wrap((x ^ (x >> 29n)) * P64_3);
  return x ^ (x >> 32n);
}

function hash0to3(data, n) {
  if (n === 0) return avalancheXxh64(u64(SECRET, 56) ^ u64(SECRET, 64));
  const byte = (at) => BigInt(data.getUint8(at));
  const combined = byte(n - 1) | (BigInt(n) << 8n) | (byte(0) << 16n) | (byte(n >> 1) << 24n);
  return avalancheXxh64(u32(SECRET, 0) ^ u32(SECRET, 4) ^ combined);
}

function hash4to8(data, n) {
  let x = u64(SECRET, 8) ^ u64(SECRET, 16) ^ (u32(data, n - 4) | (u32(data, 0) << 32n));
  x = wrap((x ^ rotl(x, 49n) ^ rotl(x, 24n)) * MX2);
  x = wrap((x ^ ((x >> 35n) + BigInt(n))) * MX2);
  return x ^ (x >> 28n);
}

function hash9to16(data, n) {
  const low = u64(SECRET, 24) ^ u64(SECRET, 32) ^ u64(data, 0);
  const high = u64(SECRET, 40) ^ u64(SECRET, 48) ^ u64(data, n - 8);
  return avalanche(wrap(BigInt(n) + swapBytes(low) + high + fold(low, high)));
}

function mixStep(data, at, secretAt) {
  return fold(u64(data, at) ^ u64(SECRET, secretAt), u64(data, at + 8) ^ u64(SECRET, secretAt + 8));
}

function hash17to128(data, n) {
  let acc = BigInt(n) * P64_1;
  for (let i = 0; i <= (n - 1) >> 5; i++) {
    acc += mixStep(data, i * 16, i * 32) + mixStep(data, n - i * 16 - 16, i * 32 + 16);
  }
  return avalanche(wrap(acc));
}

function hash129to240(data, n) {
  let acc = BigInt(n) * P64_1;
  for (let i = 0; i < 8; i++) acc += mixStep(data, i * 16, i * 16);
  acc = avalanche(wrap(acc));
  for (let i = 8; i < n >> 4; i++) acc += mixStep(data, i * 16, (i - 8) * 16 + 3);
  return avalanche(wrap(acc + mixStep(data, n - 16, 119)));
}

function accumulate(acc, data, at, secretAt) {
  for (let lane = 0; lane < 8; lane++) {
    const word = u64(data, at + lane * 8);
    const keyed = word ^ u64(SECRET, secretAt + lane * 8);
    acc[lane ^ 1] = wrap(acc[lane ^ 1] + word);
    acc[lane] = wrap(acc[lane] + (keyed & 0xFFFFFFFFn) * (keyed >> 32n));
  }
}

function scramble(acc) {
  for (let lane = 0; lane < 8; lane++) {
    const secret = u64(SECRET, SECRET.byteLength - STRIPE + lane * 8);
    acc[lane] = wrap((acc[lane] ^ (acc[lane] >> 47n) ^ secret) * P32_1);
  }
}

function hashOver240(data, n) {
  const acc = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1];
  // Every stripe but the last is taken in order; a block's end scrambles.
  for (let stripe = 0; stripe < Math.floor((n - 1) / STRIPE); stripe++) {
    const place = stripe % STRIPES_PER_BLOCK;
    accumulate(acc, data, stripe * STRIPE, place * 8);
    if (place === STRIPES_PER_BLOCK - 1) scramble(acc);
  }
  accumulate(acc, data, n - STRIPE, SECRET.byteLength - 71);
  let x = BigInt(n) * P64_1;
  for (let i = 0; i < 4; i++) {
    x += fold(acc[2 * i] ^ u64(SECRET, 11 + 16 * i), acc[2 * i + 1] ^ u64(SECRET, 19 + 16 * i));
  }
  return avalanche(wrap(x));
}

/** Hash bytes (Uint8Array) to 64 bits. */
export function xxh3(bytes) {
  const data = view(bytes), n = bytes.length;
  if (n <= 3) return hash0to3(data, n);
  if (n <= 8) return hash4to8(data, n);
  if (n <= 16) return hash9to16(data, n);
  if (n <= 128) return hash17to128(data, n);
  if (n <= 240) return hash129to240(data, n);
  return hashOver240(data, n);
}

// ---- keys and draws ----

/** Hash a text to its 64-bit key. */
export function keyOf(text) {
  const bytes = new TextEncoder().encode(text);
  // The encoder replaces half a surrogate pair in silence: two ids would become one.
  if (new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes) !== text) {
    throw new RangeError(`${JSON.stringify(text)} is not valid Unicode`);
  }
  return xxh3(bytes);
}

/** Mix 64 bits (the finaliser of SplitMix64, Stafford's variant 13). */
export function mix(x) {
  x = wrap((x ^ (x >> 30n)) * 0xBF58476D1CE4E5B9n);
  x = wrap((x ^ (x >> 27n)) * 0x94D049BB133111EBn);
  return x ^ (x >> 31n);
}

// ---- exact shares: a decimal is an integer over a power of ten ----

function decimal(number) {
  // String() of a number is its shortest decimal text, so that 0.1 is a tenth.
  const parts = /^(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/i.exec(String(number));
  if (parts === null) throw new RangeError(`${number} is not a decimal number >= 0`);
  const [, whole, fraction = "", exponent = "0"] = parts;
  return { digits: BigInt(whole + fraction), places: fraction.length - Number(exponent) };
}

/** Bring decimals to one denominator: integers, and the 10^p each stands over. */
function common(numbers) {
  const decimals = numbers.map(decimal);
  const places = Math.max(0, ...decimals.map((each) => each.places));
  const parts = decimals.map((each) => each.digits * 10n ** BigInt(places - each.places));
  return { over: 10n ** BigInt(places), parts };
}

/** The integer bound of a share: floor(share * 2^64). */
export function bound(share) {
  const { over, parts: [part] } = common([share]);
  return (part * SPAN) / over;
}

// ---- phases and arms ----

/** The generation and weights (a Map) of each phase: new weights start the next generation. */
export function generations(definition) {
  let generation = 0, weights = new Map(definition.arms);
  return definition.phases.map((phase) => {
    const next = new Map(phase.weights ?? weights);
    if ([...next].some(([arm, weight]) => Number(weight) !== Number(weights.get(arm)))) {
      generation += 1;
      weights = next;
    }
    return { generation, weights };
  });
}

/** Each arm's range [low, high) in a phase, in the definition's order of arms. */
export function ranges(definition, phase) {
  const { weights } = generations(definition)[phase];
  const names = definition.arms.map(([arm]) => arm);
  const { parts } = common(names.map((arm) => weights.get(arm)));
  const total = parts.reduce((sum, part) => sum + part, 0n);
  const { over, parts: [traffic] } = common([definition.phases[phase].traffic ?? 1]);
  let before = 0n;
  return names.map((arm, i) => {
    const low = (SPAN * before) / total;
    const high = (SPAN * (before * over + traffic * parts[i])) / (total * over);
    before += parts[i];
    return { arm, low, high };
  });
}

// ---- assignment ----

/**
 * Assign one unit in a phase (its index). `inAudience` is the caller's answer to the definition's audience;
 * `stored` is the unit's first exposed assignment; `holdout` ({name, share}) and `defaultArm` are the lab's.
 */
export function assign(definition, phase, unit, options = {}) {
  const { stored, forced, inAudience, holdout = { name: "lab", share: 0 }, defaultArm } = options;
  const { generation } = generations(definition)[phase];
  const answer = (arm, rule, exposed = true) => (
    { arm, exposed, rule, phase, generation, forced: rule === "forced" }
  );
  const nothing = (rule) => answer(defaultArm, rule, false);
  const key = keyOf(unit);
  const draw = (salt) => mix(key ^ keyOf(salt));

  const named = forced ?? (Object.hasOwn(definition.forced ?? {}, unit) ? definition.forced[unit] : null);
  if (named !== null) {
    if (!definition.arms.some(([arm]) => arm === named)) throw new RangeError(`forced arm ${named} is not an arm`);
    return answer(named, "forced");
  }
  if (draw(`holdout:${holdout.name}`) < bound(holdout.share)) return nothing("holdout");
  if (definition.audience != null) {
    if (typeof inAudience !== "boolean") throw new TypeError("the definition has an audience: give inAudience");
    if (!inAudience) return nothing("audience");
  }
  const { name = "default", slice = [0, 1] } = definition.layer ?? {};
  const slot = draw(`layer:${name}`);
  if (slot < bound(slice[0]) || slot >= bound(slice[1])) return nothing("layer");
  if (stored != null) return { forced: false, ...stored, exposed: true, rule: "stored" };
  const x = draw(`experiment:${definition.name}:${generation}`);
  const hit = ranges(definition, phase).find(({ low, high }) => low <= x && x < high);
  return hit ? answer(hit.arm, "range") : nothing("outside");
}
