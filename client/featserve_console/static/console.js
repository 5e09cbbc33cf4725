// The page: asks its own origin alone, and writes what it is told as text, never as markup.

const SIDE = 480; // Pixels of a photo's longer side on the page.
const AT_ONCE = 3;
const POLL_MS = 2000;
const get = (id) => document.getElementById(id);

const state = { now: null, after: 0, points: [], name: "", version: null, model: null, snippets: [], language: 0, round: 0 };
let photos = [];
let running = 0;
let photoNumber = 0;

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-")) element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children);
  return element;
}

async function ask(path, parameters = {}, body = undefined) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  let response;
  try {
    response = await fetch(`/console/api/${path}?${new URLSearchParams(given)}`,
      body === undefined ? {} : { method: "POST", body, headers: { "content-type": "application/octet-stream" } });
  } catch {
    throw new Error("the console does not answer: is the program behind this page still running?");
  }
  const answer = await response.json().catch(() => ({ error: `the console answered ${response.status}` }));
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

// ---- Served now

async function poll() {
  if (!document.hidden) {
    try {
      const now = await ask("now", { after: state.after });
      const away = state.now?.error || !state.now;
      state.now = now;
      for (const point of now.figures ?? []) {
        state.points.push(point);
        state.after = point.at;
      }
      state.points = state.points.slice(-150);
      showNow();
      if (!now.error && (away || !state.model)) await loadModel();
      showHealthNow(); // A server that returned reads as healthy once the page shows its model, not the one before.
    } catch (error) {
      if (state.now) state.now.error = error.message;
      showHealth(error.message);
    }
  }
  setTimeout(poll, POLL_MS);
}

function showNow() {
  const { now } = state;
  get("server").textContent = now.server;
  if (now.models) {
    fillModels(now.models);
    get("versions").replaceChildren(...now.models.flatMap(rowsOfModel));
  }
  showFigures();
}

function showHealthNow() {
  const { now } = state;
  const known = (now.models ?? []).flatMap((model) => model.versions);
  const ready = known.filter((each) => each.state === "AVAILABLE").length;
  showHealth(now.error ?? (ready ? "" : "no model version answers requests yet"), `${ready} of ${known.length} versions answer`);
}

function showHealth(error, good = "") {
  const place = get("health");
  place.className = error ? "bad" : "good";
  if (place.textContent !== (error || good)) place.textContent = error || good;
}

function fillModels(models) {
  const pairs = models.flatMap(({ name, versions }) =>
    versions.length ? versions.map(({ version }, place) => [name, version, place]) : [[name, null, 0]]);
  const picker = get("model");
  const values = pairs.map(([name, version]) => JSON.stringify([name, version]));
  if (values.join() === [...picker.options].map((option) => option.value).join()) return;
  const before = picker.value;
  picker.replaceChildren(...pairs.map(([name, version], place) =>
    make("option", { value: values[place], textContent: version === null ? name : `${name}, version ${version}` })));
  const firstReady = models.flatMap(({ name, versions }) => versions.map((each) => ({ name, ...each })))
    .find((each) => each.state === "AVAILABLE");
  if (values.includes(before)) picker.value = before;
  else if (firstReady) picker.value = JSON.stringify([firstReady.name, firstReady.version]);
  state.model = null;
}

function rowsOfModel({ name, versions }) {
  if (!versions.length) return [row([name, "–", "the server has no such model", ""])];
  return versions.map((each) => {
    const labels = each.labels?.length ? ` (${each.labels.join(", ")})` : "";
    const line = row([name, `${each.version}${labels}`, `${each.state} ${each.error}`.trim(), age(each)]);
    line.children[2].className = each.state === "AVAILABLE" ? "good" : "bad";
    return line;
  });
}

function row(cells) {
  return make("tr", {}, ...cells.map((text) => make("td", { textContent: text })));
}

function age({ since, seen }) {
  const time = new Date((since ?? seen) * 1000);
  const today = time.toDateString() === new Date().toDateString();
  const text = today ? time.toLocaleTimeString() : time.toLocaleString();
  return since === null ? `seen ${text}` : text;
}

const FIGURES = [
  ["requests/s", (model) => model?.per_s ?? 0],
  ["errors/s", (model) => Object.values(model?.errors ?? {}).reduce((sum, each) => sum + each, 0)],
  ["p50, ms", (model) => model?.p50_ms ?? null],
  ["p99, ms", (model) => model?.p99_ms ?? null],
  ["images a batch", (model) => model?.batch ?? null],
];
// Who waits: the embedded server counts requests, TensorFlow Serving times batches.
const WAITING = ["requests waiting", (model, point) => point.waiting];
const QUEUED = ["in the queue, ms", (model) => model?.queue_ms ?? null];

function showFigures() {
  const { now, points, name } = state;
  get("figures-note").textContent = now.figures_error ?? (now.figures === null
    ? "The metrics are on the REST port, which is not known here: start the console with --rest HOST:PORT."
    : points.length ? "" : "The first figures come in some seconds.");
  const known = points.map((point) => [point.models[name], point]);
  const figures = [...FIGURES, (points.at(-1)?.waiting ?? null) === null ? QUEUED : WAITING];
  get("figures").replaceChildren(...(points.length ? figures : []).map(([title, value]) =>
    sparkline(title, known.map((each) => value(...each)))));
  const codes = Object.entries(points.at(-1)?.models[name]?.errors ?? {});
  if (codes.length) {
    const text = codes.map(([code, rate]) => `${code} ${rate.toFixed(1)}/s`).join(", ");
    get("figures").append(make("li", { className: "bad", textContent: `Errors: ${text}` }));
  }
}

function sparkline(title, values) {
  const last = values.at(-1) ?? null;
  const top = Math.max(...values.filter((value) => value !== null), 1e-9);
  const points = values.flatMap((value, place) =>
    value === null ? [] : [`${(100 * place) / Math.max(values.length - 1, 1)},${27 - (25 * value) / top}`]);
  const text = last === null ? "–" : last >= 100 ? last.toFixed(0) : last.toFixed(1);
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  picture.setAttribute("viewBox", "0 0 100 28");
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(space, "polyline");
  line.setAttribute("points", points.join(" "));
  picture.append(line);
  return make("li", {}, title, make("b", { textContent: text }), picture);
}

async function loadModel() {
  const round = ++state.round;
  const value = get("model").value;
  if (!value) return;
  [state.name, state.version] = JSON.parse(value);
  showFigures();
  try {
    const model = await ask("model", { name: state.name, version: state.version });
    if (round === state.round) showModel(model);
  } catch (error) {
    if (round !== state.round) return;
    state.model = null;
    get("model-note").textContent = error.message;
    for (const id of ["facts", "layers", "signatures", "layer"]) get(id).replaceChildren();
    showCannot("");
    showSnippets([]);
  }
}

function showModel(model) {
  state.model = model;
  get("model-note").textContent = model.has_manifest ? "" : "It carries no manifest: this is what its signatures tell.";
  get("facts").replaceChildren(...model.facts.flatMap(([key, value]) =>
    [make("dt", { textContent: key }), make("dd", { textContent: value })]));
  get("layers").replaceChildren(...model.layers.map((layer) => row([
    layer.classes ? `${layer.name} (${layer.classes} classes)` : layer.name,
    layer.shape.map((size) => size ?? "?").join(" × ") || "open",
    layer.cosine === null ? "–" : layer.cosine.toFixed(7),
  ])));
  get("signatures").replaceChildren(...model.signatures.flatMap(({ name, inputs, outputs }) => [
    make("dt", { textContent: name }),
    make("dd", { textContent: `${inputs.join(", ") || "no inputs"} → ${outputs.join(", ")}` }),
  ]));
  const picker = get("layer");
  const before = picker.value;
  picker.replaceChildren(...model.layers.map(({ name }) => make("option", { value: name, textContent: name })));
  picker.value = model.layers.some(({ name }) => name === before) ? before : model.layer ?? "";
  showCannot(model.cannot_try);
  loadSnippets();
  lookAgain();
}

function showCannot(text) {
  get("cannot").hidden = !text;
  get("cannot").textContent = text;
  get("try").hidden = Boolean(text);
}

// ---- Try it

function add(files) {
  for (const file of files) {
    const photo = { id: ++photoNumber, name: file.name || "pasted photo", file, shown: null, answer: null, error: "", busy: true };
    photo.chosen = 0;
    photo.element = make("li");
    photos.push(photo);
    get("photos").append(photo.element);
    draw(photo);
  }
  pump();
}

function lookAgain() {
  for (const photo of photos) Object.assign(photo, { answer: null, error: "", busy: true, chosen: 0, asked: null });
  photos.forEach(draw);
  showMatrix();
  pump();
}

function pump() {
  while (running < AT_ONCE) {
    const photo = photos.find((each) => each.busy && !each.asked);
    if (!photo || !state.model || state.model.cannot_try) break;
    running += 1;
    const request = (photo.asked = {});
    look(photo, request).finally(() => {
      running -= 1;
      pump();
    });
  }
  const open = photos.filter((each) => each.busy).length;
  get("progress").textContent = open ? `${photos.length - open} of ${photos.length} photos done`
    : photos.length ? `${photos.length} ${photos.length === 1 ? "photo" : "photos"} done` : "";
}

async function look(photo, request) {
  const started = performance.now();
  const found = { answer: null, error: "" };
  try {
    if (!photo.shown) photo.shown = await shrunk(photo.file).catch(() => null);
    if (photo.file.size > state.now.max_upload_bytes) {
      throw new Error(`the file has ${(photo.file.size / 2 ** 20).toFixed(1)} MiB; ` +
        `the console takes up to ${(state.now.max_upload_bytes / 2 ** 20).toFixed(0)} MiB`);
    }
    const channel = get("channel").value;
    found.answer = await ask("look",
      { name: state.name, version: state.version, layer: get("layer").value, channel }, photo.file);
    found.answer.ms.total = performance.now() - started;
    const place = (found.answer.maps?.maps ?? []).findIndex((map) => channel !== "" && map.channel === Number(channel));
    photo.chosen = Math.max(place, 0);
  } catch (error) {
    found.error = error.message;
  }
  if (photo.asked !== request) return;
  Object.assign(photo, found, { busy: false });
  draw(photo);
  showMatrix();
}

async function shrunk(file) {
  const turned = state.model.image.turned ? "from-image" : "none";
  const bitmap = await createImageBitmap(file, { imageOrientation: turned });
  const { crop, size } = state.model.image;
  let [left, top, width, height] = [0, 0, bitmap.width, bitmap.height];
  if (crop && size) { // The network sees the middle of the photo.
    const wanted = size[1] / size[0];
    if (width > height * wanted) [left, width] = [(width - height * wanted) / 2, height * wanted];
    else [top, height] = [(height - width / wanted) / 2, width / wanted];
  }
  const scale = Math.min(1, SIDE / Math.max(width, height));
  const canvas = make("canvas", { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) });
  canvas.getContext("2d").drawImage(bitmap, left, top, width, height, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas;
}

function draw(photo) {
  const { element, answer } = photo;
  const remove = make("button", { type: "button", textContent: "×", "aria-label": `Remove ${photo.name}` });
  remove.addEventListener("click", () => {
    photos = photos.filter((each) => each !== photo);
    element.remove();
    showMatrix();
    pump();
    get("files").focus();
  });
  element.replaceChildren(make("h3", {}, make("span", { textContent: photo.name, title: photo.name }), remove));
  if (photo.shown) element.append(overlay(photo));
  if (photo.busy) element.append(make("p", { className: "muted small", textContent: "…" }));
  if (photo.error) element.append(make("p", { className: "error", textContent: photo.error }));
  if (!answer) return;
  if (answer.maps) element.append(mapButtons(photo));
  if (answer.classes) {
    element.append(make("ol", { className: "top" }, ...answer.classes.top.map(({ label, score }) => make("li", {},
      make("span", { textContent: label }),
      make("meter", { min: 0, max: 1, value: score, "aria-label": label }),
      make("span", { textContent: score.toFixed(3) })))));
  }
  const { size, norm } = answer.vector;
  element.append(make("p", { className: "small", textContent: `Vector of ${size} numbers, norm ${norm.toPrecision(4)}` }));
  const parts = Object.entries(answer.ms).filter(([, value]) => value !== null);
  element.append(make("p", { className: "muted small",
    textContent: parts.map(([key, value]) => `${key} ${value.toFixed(1)} ms`).join(" · ") }));
}

function overlay({ name, shown, answer, chosen }) {
  const canvas = make("canvas", { className: "view", width: shown.width, height: shown.height, "role": "img" });
  const map = answer?.maps?.maps[chosen];
  const what = map ? `, ${nameOf(map)} of ${answer.layer} drawn over it` : "";
  canvas.setAttribute("aria-label", `${name}${what}`);
  const context = canvas.getContext("2d");
  if (map) context.filter = "grayscale(1)";
  context.drawImage(shown, 0, 0);
  context.filter = "none";
  if (map) {
    context.globalAlpha = 0.55;
    context.imageSmoothingQuality = "high";
    context.drawImage(heat(map, answer.maps), 0, 0, canvas.width, canvas.height);
  }
  return canvas;
}

const nameOf = (map) => (map.channel === null ? "all channels" : `channel ${map.channel}`);

function mapButtons(photo) {
  const { maps } = photo.answer;
  return make("div", { className: "maps", "role": "group", "aria-label": "Strongest maps" }, ...maps.maps.map((map, place) => {
    const small = heat(map, maps);
    small.setAttribute("aria-hidden", "true");
    const button = make("button", { type: "button", "aria-pressed": String(place === photo.chosen),
      title: `${nameOf(map)}: ${map.low.toPrecision(3)} to ${map.high.toPrecision(3)}` },
    small, make("span", { textContent: map.channel ?? "all" }));
    button.setAttribute("aria-label", nameOf(map));
    button.addEventListener("click", () => {
      photo.chosen = place;
      draw(photo);
      photo.element.querySelectorAll(".maps button")[place].focus();
    });
    return button;
  }));
}

const STOPS = [[20, 8, 60], [190, 40, 100], [255, 235, 130]];

function heat(map, { width, height }) {
  const canvas = make("canvas", { width, height });
  const levels = Uint8Array.from(atob(map.levels), (each) => each.charCodeAt(0));
  const image = new ImageData(width, height);
  levels.forEach((level, place) => {
    const at = level / 127.5;
    const [low, high] = at < 1 ? [STOPS[0], STOPS[1]] : [STOPS[1], STOPS[2]];
    const share = at < 1 ? at : at - 1;
    for (let color = 0; color < 3; color += 1) image.data[4 * place + color] = low[color] + share * (high[color] - low[color]);
    image.data[4 * place + 3] = 255;
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function vectorOf({ answer }) {
  const bytes = Uint8Array.from(atob(answer.vector.unit), (each) => each.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

function showMatrix() {
  const done = photos.filter((photo) => photo.answer);
  get("matrix-part").hidden = done.length < 2;
  if (done.length < 2) return;
  const vectors = new Map(done.map((photo) => [photo, vectorOf(photo)]));
  const cosine = (a, b) => vectors.get(a).reduce((sum, value, place) => sum + value * vectors.get(b)[place], 0);
  const sorted = [done[0], ...done.slice(1).sort((a, b) => cosine(done[0], b) - cosine(done[0], a))];
  const heading = (photo, scope) => make("th", { scope, textContent: photo.name, title: photo.name });
  get("matrix").replaceChildren(
    make("thead", {}, make("tr", {}, make("td"), ...sorted.map((photo) => heading(photo, "col")))),
    make("tbody", {}, ...sorted.map((line) => make("tr", {}, heading(line, "row"),
      ...sorted.map((column) => make("td", { textContent: cosine(line, column).toFixed(3) }))))),
  );
}

// ---- Use it

async function loadSnippets() {
  const round = state.round;
  try {
    const found = await ask("snippets", { name: state.name, version: state.version, layer: get("layer").value });
    if (round === state.round) showSnippets(found);
  } catch (error) {
    showSnippets([{ name: "Error", code: error.message }]);
  }
}

function showSnippets(found) {
  state.snippets = found;
  if (state.language >= found.length) state.language = 0;
  get("languages").replaceChildren(...found.map(({ name }, place) => {
    const button = make("button", { type: "button", textContent: name, "aria-pressed": String(place === state.language) });
    button.addEventListener("click", () => {
      state.language = place;
      showSnippets(found);
      get("languages").children[place].focus();
    });
    return button;
  }));
  get("code").textContent = found[state.language]?.code ?? "";
}

async function copy() {
  const button = get("copy");
  try {
    await navigator.clipboard.writeText(get("code").textContent);
    button.textContent = "Copied";
  } catch { // Browsers give the clipboard to localhost and HTTPS alone.
    getSelection().selectAllChildren(get("code"));
    button.textContent = "Selected: press Ctrl+C";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

// ---- What the user does

get("model").addEventListener("change", loadModel);
get("layer").addEventListener("change", () => { get("channel").value = ""; lookAgain(); loadSnippets(); });
get("channel").addEventListener("change", lookAgain);
get("copy").addEventListener("click", copy);
get("files").addEventListener("change", ({ target }) => { add([...target.files]); target.value = ""; });
get("clear").addEventListener("click", () => {
  photos = [];
  get("photos").replaceChildren();
  showMatrix();
  pump();
});
for (const button of document.querySelectorAll("[data-sample]")) {
  button.addEventListener("click", async () => {
    const name = `${button.dataset.sample}.jpg`;
    try {
      add([new File([await (await fetch(`/console/samples/${name}`)).blob()], name)]);
    } catch {
      showHealth("the console does not answer: is the program behind this page still running?");
    }
  });
}
addEventListener("paste", ({ clipboardData }) => add([...clipboardData.files]));
addEventListener("dragover", (event) => { event.preventDefault(); get("drop").classList.add("over"); });
addEventListener("dragleave", () => get("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  get("drop").classList.remove("over");
  add([...event.dataTransfer.files]);
});
poll();
