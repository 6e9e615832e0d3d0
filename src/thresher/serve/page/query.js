// What is asked: the question, the filters and the settings. The URL holds all of it.

const empty = () => ({
  q: "", index: "", k: null, tokens: null, where: "", without: [], versus: "", tiers: "", fields: {}, ranges: {},
});

const TIERS = ["both", "first"]; // where it is neither, the index says which tiers are searched

export function read(search) {
  const given = new URLSearchParams(search);
  const state = empty();
  state.q = given.get("q") ?? "";
  state.index = given.get("index") ?? "";
  state.k = whole(given.get("k"));
  state.tokens = whole(given.get("tokens"));
  state.where = given.get("where") ?? "";
  state.without = given.getAll("without");
  state.versus = given.get("versus") ?? "";
  state.tiers = TIERS.includes(given.get("tiers")) ? given.get("tiers") : "";
  for (const [name, value] of given) {
    if (name.startsWith("is.")) (state.fields[name.slice(3)] ??= []).push(value);
    if (name.startsWith("from.")) (state.ranges[name.slice(5)] ??= {}).from = value;
    if (name.startsWith("to.")) (state.ranges[name.slice(3)] ??= {}).to = value;
  }
  return state;
}

export function write(state) {
  const made = new URLSearchParams();
  const put = (name, value) => { if (value !== "" && value !== null && value !== undefined) made.append(name, value); };
  put("q", state.q);
  put("index", state.index);
  put("k", state.k);
  put("tokens", state.tokens);
  put("where", state.where);
  for (const one of state.without) put("without", one);
  put("versus", state.versus);
  put("tiers", state.tiers);
  for (const [name, values] of Object.entries(state.fields)) for (const value of values) put(`is.${name}`, value);
  for (const [name, range] of Object.entries(state.ranges)) {
    put(`from.${name}`, range.from);
    put(`to.${name}`, range.to);
  }
  return made.toString() ? `?${made}` : "";
}

function whole(text) {
  return /^\d{1,7}$/.test(text ?? "") && Number(text) > 0 ? Number(text) : null;
}

export const filtered = (state) =>
  state.where.trim() !== "" || state.tiers === "first" || Object.keys(state.fields).length > 0 || Object.keys(state.ranges).length > 0;

/** The filter in the text form of the filter language; null where there is none. `except` leaves a field out. */
export function filter(state, schema, except = "") {
  const parts = [];
  if (state.where.trim()) parts.push(`(${state.where.trim()})`);
  for (const [name, values] of Object.entries(state.fields)) {
    if (name === except || !values.length) continue;
    const kind = schema[name] ?? "string";
    const listed = values.map((value) => literal(value, kind)).join(", ");
    parts.push(`${JSON.stringify(name)} ${kind === "strings" ? "any" : "in"} (${listed})`);
  }
  for (const [name, range] of Object.entries(state.ranges)) {
    if (name === except) continue;
    const kind = schema[name] ?? "float";
    if (range.from) parts.push(`${JSON.stringify(name)} >= ${literal(range.from, kind)}`);
    if (range.to) parts.push(`${JSON.stringify(name)} <= ${literal(range.to, kind)}`);
  }
  return parts.length ? parts.join(" and ") : null;
}

function literal(value, kind) {
  if (kind === "boolean") return value === "true" ? "true" : "false";
  if ((kind === "integer" || kind === "float") && /^-?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(value)) return value;
  return JSON.stringify(value);
}

export function body(state, schema, without = state.without) {
  const made = { query: state.q, ranking: Math.min(state.k ?? 5, 10), texts: true };
  if (state.index) made.index = state.index;
  if (state.k) made.k = state.k;
  if (state.tokens) made.max_context_tokens = state.tokens;
  if (without.length) made.without = without;
  if (state.tiers) made.tiers = state.tiers;
  const where = filter(state, schema);
  if (where) made.where = where;
  return made;
}

/** The stages that the second setting goes without: the first's, and one more, or one less. */
export const other = (state) =>
  state.without.includes(state.versus)
    ? state.without.filter((name) => name !== state.versus)
    : [...state.without, state.versus];
