"use strict";
// Without this script the form still works: it asks for the page that holds the result.
const form = document.getElementById("form");
const text = document.getElementById("text");
const play = document.getElementById("play");
const busy = document.getElementById("busy");
let timer = 0;
let asked = null;
let player = 0;

// One question at a time; a newer one takes the place of an older.
async function read() {
  clearTimeout(timer);
  stop();
  if (asked) asked.abort();
  const request = asked = new AbortController();
  busy.textContent = "reading …";
  try {
    const body = new URLSearchParams(new FormData(form));
    const answer = await fetch("/", { method: "POST", body, signal: request.signal });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const result = page.getElementById("result");
    if (!result) throw new Error(page.body.textContent);
    document.getElementById("result").replaceWith(document.adoptNode(result));
    busy.textContent = "";
    show();
  } catch (error) {
    if (error.name !== "AbortError") busy.textContent = "No answer: " + error.message;
  }
}

function words() {
  return [...document.querySelectorAll("#words span")];
}

function show() {
  play.hidden = words().length === 0;
}

// Marks the place of a word in the curve.
function mark(index) {
  const place = document.getElementById("place");
  if (!place) return;
  place.classList.toggle("shown", index >= 0);
  place.setAttribute("x1", index + 1);
  place.setAttribute("x2", index + 1);
}

function stop() {
  clearInterval(player);
  player = 0;
  play.textContent = "Play";
  for (const word of words()) word.classList.remove("later");
  mark(-1);
  tell(words().at(-1));
}

function tell(word) {
  if (!word) return;
  document.getElementById("percent").textContent = word.dataset.percent + " % positive";
  document.querySelector("#verdict progress").value = word.dataset.percent;
  const verdict = document.getElementById("verdict");
  verdict.className = word.dataset.label;
  verdict.querySelector("strong").textContent = word.dataset.label;
}

play.addEventListener("click", () => {
  if (player) return stop();
  const all = words();
  let next = 0;
  for (const word of all) word.classList.add("later");
  play.textContent = "Stop";
  player = setInterval(() => {
    if (next === all.length) return stop();
    all[next].classList.remove("later");
    tell(all[next]);
    mark(next++);
  }, 150);
});

document.addEventListener("mouseover", (event) => {
  if (!player) mark(words().indexOf(event.target));
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  read();
});
const examples = document.getElementById("examples");
examples.hidden = false;
examples.addEventListener("click", (event) => {
  if (event.target.tagName !== "BUTTON") return;
  text.value = event.target.textContent;
  read();
});
text.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(read, 250);
});
show();
