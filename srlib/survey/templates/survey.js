"use strict";

const PAUSE = 220; // milliseconds for which the chosen score is visible before the next version
const SECONDS_PER_VERSION = 6;

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("survey").textContent);
$("survey").remove();
const items = new Map(data.items.map((item) => [item.id, item]));
const served = location.protocol.startsWith("http");

// SHA-256 (FIPS 180-4). The browser's own is missing on plain http other than localhost.
const sha256 = (() => {
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
  const bits = (root) => Math.floor((root - Math.floor(root)) * 2 ** 32) | 0;
  const constants = primes.map((p) => bits(Math.cbrt(p)));
  const start = primes.slice(0, 8).map((p) => bits(Math.sqrt(p)));
  const turn = (x, n) => (x >>> n) | (x << (32 - n));
  return (bytes) => {
    const padded = new Uint8Array(((bytes.length + 72) >> 6) << 6);
    padded.set(bytes);
    padded[bytes.length] = 0x80;
    const view = new DataView(padded.buffer);
    view.setUint32(padded.length - 4, bytes.length * 8);
    const state = [...start];
    const w = new Int32Array(64);
    for (let block = 0; block < padded.length; block += 64) {
      let [a, b, c, d, e, f, g, h] = state;
      for (let i = 0; i < 64; i++) {
        if (i < 16) w[i] = view.getInt32(block + 4 * i);
        else {
          const s0 = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ (w[i - 15] >>> 3);
          const s1 = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ (w[i - 2] >>> 10);
          w[i] = w[i - 16] + s0 + w[i - 7] + s1;
        }
        const t1 = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + constants[i] + w[i];
        const t2 = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
      }
      [a, b, c, d, e, f, g, h].forEach((value, i) => { state[i] = (state[i] + value) | 0; });
    }
    const digest = new DataView(new ArrayBuffer(32));
    state.forEach((value, i) => digest.setInt32(4 * i, value));
    return new Uint8Array(digest.buffer);
  };
})();

const utf8 = (text) => new TextEncoder().encode(text);
const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const joined = (...parts) => Uint8Array.from(parts.flatMap((part) => [...part]));

function hmac(keyHex, text) {
  const key = new Uint8Array(64);
  key.set(keyHex.match(/../g).map((pair) => parseInt(pair, 16)));
  const inner = sha256(joined(key.map((byte) => byte ^ 0x36), utf8(text)));
  return hex(sha256(joined(key.map((byte) => byte ^ 0x5c), inner)));
}

// ---- state: stored under the survey's id and the rater -------------------------------------------------------

const asked = /^#rater=([a-z0-9-]{1,32})$/.exec(location.hash);
const base = `srlib-survey:${data.survey}`;
let stores = true;
let state;
let order;
let screen = "intro";
let at = 0; // which item of the order, or which example
let busy = false;

function stored(key, value) {
  try {
    if (value !== undefined) localStorage.setItem(key, value);
    return localStorage.getItem(key);
  } catch {
    stores = false;
    return null;
  }
}

function presentation(rater) {
  const who = data.order === "fixed" ? "" : rater;
  const rank = (name) => hex(sha256(utf8(`${data.seed}:${who}:${name}`)));
  const keyed = data.items.map(({ id, group }) => [(data.order === "mixed" ? "" : rank(group)) + rank(id), id]);
  return keyed.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, id]) => id);
}

function load(rater) {
  const language = state ? state.language : navigator.language.startsWith("ar") ? "ar" : "en";
  state = { rater, language, votes: {}, revision: 0, changed: true, calibrated: false };
  if (asked) state.device = randomCode(); // a name may be used on several devices, each of which counts its revisions
  try {
    Object.assign(state, JSON.parse(stored(`${base}:${rater}`)));
  } catch {
    // Not our data under our name: start again.
  }
  state.rater = rater;
  order = presentation(rater);
}

function store() {
  stored(`${base}:${state.rater}`, JSON.stringify(state));
}

const randomCode = () => hex(crypto.getRandomValues(new Uint8Array(8)));

function newRater() {
  const rater = randomCode();
  stored(base, rater);
  return rater;
}

const done = () => {
  const first = order.findIndex((id) => !(id in state.votes));
  return first < 0 ? order.length : first;
};

function answers() {
  if (state.changed) {
    state.revision += 1;
    state.changed = false;
    store();
  }
  const votes = order.slice(0, done()).map((id) => [id, state.votes[id]]);
  const { survey, seal } = data;
  const { rater, revision, language, device } = state; // JSON leaves out a device that is undefined
  const lines = [survey, rater, revision, language, ...(device ? [`device=${device}`] : [])];
  lines.push(...votes.map(([id, score]) => `${id}=${score}`));
  const content = { format: "srlib survey answers 1", survey, rater, revision, language, device, votes };
  return JSON.stringify({ ...content, seal: hmac(seal, lines.join("\n")) });
}

// ---- what is shown ---------------------------------------------------------------------------------------------

const text = () => TEXT[state.language];
const digits = (n) => new Intl.NumberFormat(state.language === "ar" ? "ar-u-nu-arab" : "en").format(n);

function source(png) {
  return `data:image/png;base64,${png}`;
}

// Whole multiples of a device pixel only: the browser must not blur or sharpen what is rated.
function fit(image) {
  const stage = image.closest(".stage");
  const ratio = window.devicePixelRatio || 1;
  const { width, height } = image.dataset;
  const largest = Math.floor(Math.min((stage.clientWidth * ratio) / width, (stage.clientHeight * ratio) / height) + 1e-6);
  const multiple = Math.max(1, Math.min(largest, 2 * Math.ceil(ratio)));
  image.style.width = `${(width * multiple) / ratio}px`;
  image.style.height = `${(height * multiple) / ratio}px`;
}

// Return whether the image is shown: false where another one was asked for in the meantime.
async function put(image, { png, width, height }) {
  const next = new Image();
  image.next = next;
  next.src = source(png);
  await next.decode();
  if (image.next !== next) return false;
  image.src = next.src;
  Object.assign(image.dataset, { width, height });
  await image.decode();
  fit(image);
  return image.next === next;
}

function place() {
  if (data.order === "mixed") return text().mixed(digits(at + 1), digits(order.length));
  const group = items.get(order[at]).group;
  const groups = [...new Set(order.map((id) => items.get(id).group))];
  const versions = order.filter((id) => items.get(id).group === group);
  const numbers = [groups.indexOf(group) + 1, groups.length, versions.indexOf(order[at]) + 1, versions.length];
  return text().grouped(...numbers.map(digits));
}

function words() {
  document.documentElement.lang = state.language;
  document.documentElement.dir = state.language === "ar" ? "rtl" : "ltr";
  document.title = text().title;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = text()[element.dataset.text];
  for (const element of document.querySelectorAll("[data-number]")) element.textContent = digits(element.dataset.number);
  $("language").textContent = text().other;
  $("language").lang = state.language === "ar" ? "en" : "ar";
  $("scale").setAttribute("aria-label", text().question);
  [...$("scale").children, ...$("legend").children].forEach((element, i) => {
    element.firstChild.textContent = digits((i % 5) + 1);
    element.lastChild.textContent = text().words[i % 5];
  });
}

async function show(name, index = 0, focus = true) {
  [screen, at, busy] = [name, index, false];
  words();
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== name;
  $("progress").max = order.length;
  $("progress").value = done();
  $("progress").setAttribute("aria-label", text().rated(digits(done()), digits(order.length)));
  $("place").textContent = name === "rating" ? place() : "";
  if (focus) document.querySelector(`#${name} h1`).focus({ preventScroll: true });
  await SCREENS[name](index);
}

const SCREENS = {
  intro() {
    const images = new Set(data.items.map((item) => item.group)).size;
    const minutes = Math.ceil((order.length * SECONDS_PER_VERSION) / 60);
    $("amount").textContent = text().amount(...[images, order.length, minutes].map(digits));
    $("privacy").textContent = asked ? text().named(asked[1]) : text().privacy;
    $("unstored").hidden = stores;
    $("start").textContent = done() ? text().resume : text().start;
  },

  async calibration(index) {
    const { bad, good, width, height } = data.calibration[index];
    $("place").textContent = text().example(digits(index + 1), digits(data.calibration.length));
    $("exampleNext").textContent = index + 1 < data.calibration.length ? text().next : text().begin;
    $("bad").alt = text().badText;
    $("good").alt = text().goodText;
    await Promise.all([put($("bad"), { png: bad, width, height }), put($("good"), { png: good, width, height })]);
  },

  async rating(index) {
    const id = order[index];
    [...$("scale").children].forEach((button, i) => {
      button.setAttribute("aria-pressed", String(state.votes[id] === i + 1));
    });
    $("next").disabled = index >= done();
    busy = true; // until this version is on the screen: no score may go to one that is not
    if (!(await put($("image"), items.get(id)))) return;
    busy = false;
    $("image").alt = place();
    $("stage").scrollTo(0, 0);
  },

  end() {
    const all = done() === order.length;
    $("thanks").textContent = all ? text().finished : text().unfinished;
    $("rated").textContent = text().rated(digits(done()), digits(order.length));
    $("endText").textContent = done() ? (served ? text().sendText : text().saveText) : "";
    $("resume").hidden = all;
    $("send").hidden = !served || !done();
    $("save").hidden = !done();
    $("review").hidden = !all;
    outcome(null);
  },
};

function outcome(message) {
  $("outcome").hidden = message === null;
  $("outcome").textContent = message;
}

// ---- what a rater does -----------------------------------------------------------------------------------------

async function rate(score) {
  if (busy || screen !== "rating") return;
  busy = true;
  const id = order[at];
  if (state.votes[id] !== score) {
    state.votes[id] = score;
    state.changed = true;
    store();
  }
  [...$("scale").children].forEach((button, i) => button.setAttribute("aria-pressed", String(i + 1 === score)));
  $("progress").value = done();
  await new Promise((resolve) => setTimeout(resolve, PAUSE));
  if (screen !== "rating" || order[at] !== id) return; // stopped, or shown something else in the meantime
  busy = false;
  if (at + 1 < order.length) await show("rating", at + 1, false);
  else await show("end");
}

async function step(by) {
  if (busy) return;
  if (screen === "calibration") {
    if (at + by < 0) await show("intro");
    else if (at + by < data.calibration.length) await show("calibration", at + by);
    else await begin();
  } else if (screen === "rating") {
    const examples = data.calibration.length;
    if (at + by < 0) await (examples ? show("calibration", examples - 1) : show("intro"));
    else if (at + by < order.length && at + by <= done()) await show("rating", at + by, false);
    else if (done() === order.length) await show("end");
  }
}

async function begin() {
  state.calibrated = true;
  store();
  await (done() < order.length ? show("rating", done()) : show("end"));
}

function start() {
  return state.calibrated || !data.calibration.length ? begin() : show("calibration");
}

async function send() {
  $("send").disabled = true;
  try {
    const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: answers() };
    const reply = await fetch("answers", options);
    const { error } = await reply.json();
    outcome(reply.ok ? text().sent : text().refused(error));
    if (reply.ok) $("endText").textContent = "";
    $("another").hidden = !reply.ok || Boolean(asked);
  } catch {
    outcome(text().failed);
  }
  $("send").disabled = false;
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([answers()], { type: "application/json" }));
  link.download = `survey-${data.survey}-${state.rater}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  outcome(text().saved);
  $("another").hidden = Boolean(asked);
}

// ---- set up ----------------------------------------------------------------------------------------------------

for (let score = 1; score <= 5; score++) {
  const inside = () => [document.createElement("b"), document.createElement("span")];
  const button = document.createElement("button");
  button.type = "button";
  button.append(...inside());
  button.setAttribute("aria-keyshortcuts", String(score));
  button.addEventListener("click", () => rate(score));
  $("scale").append(button);
  const line = document.createElement("li");
  line.append(...inside());
  $("legend").append(line);
}
const ACTIONS = {
  start,
  exampleBack: () => step(-1),
  exampleNext: () => step(1),
  back: () => step(-1),
  next: () => step(1),
  stop: () => show("end"),
  resume: begin,
  send,
  save,
  review: () => show("rating", 0),
  another: () => {
    $("another").hidden = true;
    load(newRater());
    return show("intro");
  },
  language: () => {
    state.language = state.language === "ar" ? "en" : "ar";
    state.changed = true;
    store();
    return show(screen, at, false);
  },
};
for (const [id, action] of Object.entries(ACTIONS)) $(id).addEventListener("click", action);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const rtl = state.language === "ar";
  const steps = { ArrowLeft: rtl ? 1 : -1, ArrowRight: rtl ? -1 : 1, Backspace: -1 };
  // Latin, Arabic and Persian digits.
  const score = Math.max(..."12345 ١٢٣٤٥ ۱۲۳۴۵".split(" ").map((row) => row.indexOf(event.key) + 1));
  if (screen === "rating" && event.key.length === 1 && score) rate(score);
  else if (event.key in steps) step(steps[event.key]);
  else return;
  event.preventDefault();
});
const refit = () => document.querySelectorAll("section:not([hidden]) .stage img").forEach(fit);
window.addEventListener("resize", refit);
// The same rater in another tab: continue from the answers there.
window.addEventListener("storage", (event) => {
  if (event.key !== `${base}:${state.rater}`) return;
  load(state.rater);
  show(screen, screen === "rating" ? Math.min(at, done()) : at, false);
});

window.addEventListener("hashchange", () => location.reload());

load(asked ? asked[1] : stored(base) || newRater());
show("intro", 0, false);
