// What is shown: photos and the camera in, answers out. The network is in a worker, see worker.js.

const facts = JSON.parse(document.getElementById("facts").textContent);
const shown = (id) => document.getElementById(id);
const SIDE = 192; // px of the longer side of a map
const BARS = 5; // classes with a bar

// Languages ------------------------------------------------------------------------

const languages = Object.keys(facts.texts);
let language = [location.hash.slice(1), ...navigator.languages, facts.language]
  .map((name) => languages.find((one) => one === name || one === name.split(/[-_]/)[0].toLowerCase()))
  .find((name) => name !== undefined);
const redrawn = new Set(); // functions that write texts in the language chosen

function text(key, values = {}) {
  return facts.texts[language][key].replace(/\{(\w+)\}/g, (field, name) => values[name] ?? field);
}

function redraw() {
  document.documentElement.lang = language.replace("_", "-");
  document.title = text("title");
  shown("language").setAttribute("aria-label", text("choose language"));
  for (const table of document.querySelectorAll("#about > table")) table.hidden = table.lang !== document.documentElement.lang;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const draw of redrawn) draw();
}

const local = (number) => number.replace(".", text("decimal mark"));

// A share as a percentage; rounding never makes it 0 or 100.
function percent(share) {
  let [number, sign] = [(100 * share).toFixed(1), ""];
  if (number === "0.0" && share > 1e-9) [number, sign] = ["0.1", "< "];
  if (number === "100.0" && share < 1 - 1e-9) [number, sign] = ["99.9", "> "];
  return sign + text("percentage", { number: local(number) });
}

const nameOf = (index) => facts.names[language][index];

// The worker -----------------------------------------------------------------------

const packed = (id) => Uint8Array.from(atob(shown(id).textContent.trim()), (letter) => letter.charCodeAt(0));
const waiting = new Map();
let last = 0;
let worker;

function begin() {
  worker = new Worker(URL.createObjectURL(new Blob([shown("worker").textContent], { type: "text/javascript" })));
  worker.onmessage = ({ data: { number, answer, error } }) => {
    const { resolve, reject } = waiting.get(number);
    waiting.delete(number);
    if (error === undefined) resolve(answer);
    else reject(new Error(error));
  };
  worker.onerror = (event) => {
    for (const { reject } of waiting.values()) reject(new Error(event.message));
    waiting.clear();
  };
  return asked("start", { runtime: packed("runtime"), model: packed("model") });
}

function asked(task, given, moved = []) {
  return new Promise((resolve, reject) => {
    waiting.set(++last, { resolve, reject });
    worker.postMessage({ number: last, task, given }, moved);
  });
}

// Shows why the model can't answer; the worker names reasons that there is a text for.
function failed(error) {
  const reason = () => (error.message in facts.texts[language] ? text(error.message) : text("failed", { error: error.message }));
  delete shown("state").dataset.text;
  shown("state").hidden = false;
  redrawn.add(() => (shown("state").textContent = reason()));
  redraw();
}

// Answers --------------------------------------------------------------------------

// An image, which is used up -> what the model says about it.
async function answered(image) {
  await started;
  const { probabilities, pValue, map } = await asked("answer", { image, size: facts.size, resize: facts.resize }, [image]);
  const best = probabilities.indexOf(Math.max(...probabilities));
  const odd = pValue !== null && pValue <= facts.level;
  return { probabilities, pValue, best, odd, unsure: odd || probabilities[best] < facts.threshold, map };
}

function describe(answer, heading, reason, bars) {
  const { probabilities, best, odd, unsure } = answer;
  const values = {
    label: nameOf(best),
    share: percent(probabilities[best]),
    threshold: percent(facts.threshold),
    classes: facts.names[language].slice(0, 10).join(", "),
  };
  heading.textContent = unsure ? text("unsure") : text("prediction", values);
  heading.classList.toggle("unsure", unsure);
  reason.textContent = text(odd ? "odd" : unsure ? "below" : "confidence", values);
  const order = probabilities.map((_, index) => index).sort((one, other) => probabilities[other] - probabilities[one]);
  bars.replaceChildren(
    ...order.slice(0, BARS).map((index) => {
      const row = document.createElement("li");
      row.append(made("span", nameOf(index)), made("span", percent(probabilities[index]), "share"), made("i"));
      row.lastChild.style.setProperty("--share", probabilities[index]);
      return row;
    }),
  );
}

function made(tag, words = "", name = "") {
  const element = document.createElement(tag);
  element.textContent = words;
  if (name) element.className = name;
  return element;
}

// The map over a photo, as opaque as it is high; outside of what the network saw, grey.
function drawMap(canvas, { values, rows, columns }, width, height) {
  const [left, top, right, bottom] = covered(width, height);
  const peak = Math.max(...values);
  const scale = Math.min(1, SIDE / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  for (let y = 0, at = 0; y < canvas.height; y++) {
    const row = (((y + 0.5) / canvas.height - top) / (bottom - top)) * rows;
    for (let x = 0; x < canvas.width; x++, at += 4) {
      const column = (((x + 0.5) / canvas.width - left) / (right - left)) * columns;
      if (row <= 0 || row >= rows || column <= 0 || column >= columns) {
        image.data.set([64, 64, 64, 160], at);
        continue;
      }
      const value = peak > 0 ? between(values, rows, columns, row - 0.5, column - 0.5) / peak : 0;
      const colour = 3 * Math.min(255, Math.trunc(256 * value));
      image.data.set([palette[colour], palette[colour + 1], palette[colour + 2], 255 * facts.opacity * value], at);
    }
  }
  context.putImageData(image, 0, 0);
}

const palette = packed("palette");

function between(values, rows, columns, row, column) {
  const [y, x] = [Math.min(Math.max(row, 0), rows - 1), Math.min(Math.max(column, 0), columns - 1)];
  const [up, before] = [Math.min(Math.trunc(y), Math.max(0, rows - 2)), Math.min(Math.trunc(x), Math.max(0, columns - 2))];
  const [down, after] = [Math.min(up + 1, rows - 1), Math.min(before + 1, columns - 1)];
  const line = (at) => values[at * columns + before] * (1 - (x - before)) + values[at * columns + after] * (x - before);
  return line(up) * (1 - (y - up)) + line(down) * (y - up);
}

// The part of a photo that the network sees, as fractions of its sides.
function covered(width, height) {
  if (facts.resize === "stretch" || width === height) return [0, 0, 1, 1];
  const side = facts.resize === "crop" ? Math.min(width, height) : Math.max(width, height);
  const [across, down] = [side / width, side / height];
  return [(1 - across) / 2, (1 - down) / 2, (1 + across) / 2, (1 + down) / 2];
}

// Photos ---------------------------------------------------------------------------

let queue = Promise.resolve();
const counts = { given: 0, done: 0 };

function add(files) {
  for (const file of files) {
    counts.given++;
    queue = queue.then(() => one(file));
  }
}

function showProgress() {
  const values = { done: counts.done, photos: counts.given };
  shown("progress").textContent = counts.done < counts.given ? text("progress", values) : "";
}
redrawn.add(showProgress);

async function one(file) {
  const article = shown("photo").content.firstElementChild.cloneNode(true);
  const part = (name) => article.querySelector(name);
  let draw = () => (part("h2").textContent = text("working"));
  const update = () => {
    for (const element of article.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
    part(".bars").setAttribute("aria-label", text("probabilities"));
    part(".photo")?.setAttribute("alt", text("photo of", { name: file.name }));
    draw();
  };
  redrawn.add(update);
  const url = URL.createObjectURL(file);
  part(".photo").src = url;
  part(".name").textContent = file.name;
  part(".remove").onclick = () => {
    redrawn.delete(update);
    URL.revokeObjectURL(url);
    article.remove();
  };
  update();
  showProgress();
  shown("photos").prepend(article);
  let image = null;
  try {
    image = await createImageBitmap(file, { colorSpaceConversion: facts.colour === "stored" ? "none" : "default" });
  } catch {
    part("figure").remove();
    draw = () => (part("h2").textContent = text("unreadable"));
  }
  if (image) {
    const { width, height } = image;
    try {
      const answer = (article.answer = await answered(image));
      draw = () => describe(answer, part("h2"), part(".reason"), part(".bars"));
      if (answer.map) {
        drawMap(part("canvas.map"), answer.map, width, height);
        part(".look").hidden = false;
        part(".uniform").hidden = Math.max(...answer.map.values) > Math.min(...answer.map.values);
        part(".look input").onchange = (event) => part("canvas.map").classList.toggle("off", !event.target.checked);
      }
    } catch (error) {
      draw = () => (part("h2").textContent = text("failed", { error: error.message }));
    }
  }
  counts.done++;
  update();
  showProgress();
}

shown("files").onchange = (event) => {
  add(event.target.files);
  event.target.value = "";
};
addEventListener("paste", (event) => add(event.clipboardData.files));
addEventListener("dragover", (event) => {
  event.preventDefault();
  shown("drop").classList.add("over");
});
addEventListener("dragleave", () => shown("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  shown("drop").classList.remove("over");
  add(event.dataTransfer.files);
});

// The camera -----------------------------------------------------------------------

const video = shown("video");
let camera = null;

async function start() {
  shown("start").disabled = true;
  shown("no-camera").hidden = true;
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    for (const track of camera.getTracks()) track.onended = stop;
    video.srcObject = camera;
    await video.play();
  } catch {
    stop();
    shown("no-camera").hidden = false;
    return;
  } finally {
    shown("start").disabled = false;
  }
  shown("live").hidden = false;
  shown("start").hidden = true;
  try {
    await live(camera);
  } catch (error) {
    stop();
    failed(error);
  }
}

async function live(own) {
  const times = []; // of the last answers
  while (camera === own) {
    const image = await createImageBitmap(video);
    const { width, height } = image;
    const answer = await answered(image);
    if (camera !== own) return;
    times.push(performance.now());
    if (times.length > 10) times.shift();
    describe(answer, shown("live-heading"), shown("live-reason"), shown("live-bars"));
    if (answer.map) drawMap(shown("live-map"), answer.map, width, height);
    const rate = (1000 * (times.length - 1)) / (times.at(-1) - times[0]);
    shown("rate").textContent = times.length > 1 ? text("rate", { rate: local(rate.toFixed(1)) }) : "";
    shown("rate").dataset.rate = rate;
    await new Promise(requestAnimationFrame);
  }
}

function stop() {
  for (const track of camera?.getTracks() ?? []) track.stop();
  camera = null;
  shown("live").hidden = true;
  shown("start").hidden = false;
}

shown("start").onclick = start;
shown("stop").onclick = stop;
shown("take").onclick = async () => {
  const canvas = made("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => add([new File([blob], `${text("camera")}.png`, { type: "image/png" })]));
};

for (const name of languages) shown("language").append(new Option(facts.texts[name].language, name, false, name === language));
shown("language").onchange = (event) => {
  language = event.target.value;
  redraw();
};
redraw();
let started;
try {
  started = begin();
} catch (error) {
  started = Promise.reject(error);
}
started.then(() => (shown("state").hidden = true), failed);
