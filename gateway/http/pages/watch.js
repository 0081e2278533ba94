// The page for viewers: plays one stream, and plays it again after an interruption.

import { streamUrl } from "./endpoints.js";
import { HlsPlayer } from "./hls.js";
import { Player } from "./player.js";
import { explain } from "./messages.js";

const NEEDS_TOKEN = "This link needs a token. Ask the publisher for the whole link.";

const byId = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
const name = asked.get("stream") ?? "";
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";

function say(sentence) {
  byId("state").textContent = sentence;
  byId("stage").classList.toggle("waiting", Boolean(sentence));
}

function toggleSound() {
  const video = byId("video");
  video.muted = !video.muted;
  byId("sound").setAttribute("aria-pressed", String(!video.muted));
}

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else byId("stage").requestFullscreen?.();
}

function showNode(node) {
  byId("node").textContent = node ?? "";
  byId("node").hidden = !node;
}

function watch() {
  let player = null;
  const on = {
    playing: () => say(""),
    waiting: () => say("The picture has stopped. It continues by itself when the stream does."),
    problem: (error) => say(error.status === 401 ? NEEDS_TOKEN : explain(error)),
    noWay: () => play("hls"),
    node: showNode,
  };
  function play(way) {
    player?.stop();
    const Kind = way === "hls" ? HlsPlayer : Player;
    player = new Kind(byId("video"), streamUrl(name, way === "hls" ? "index.m3u8" : "whep"), token, on);
    player.run();
  }
  say("Waiting for the picture. It starts by itself when the stream does.");
  play(asked.get("by") === "hls" ? "hls" : "whep");
  window.addEventListener("pagehide", () => player.stop(), { once: true });
}

byId("sound").addEventListener("click", toggleSound);
byId("fullscreen").addEventListener("click", toggleFullScreen);
if (name) {
  document.title = `${name} – live`;
  byId("name").textContent = name;
  // On pageshow, not before: a video that waits for its picture delays the load event. The event also comes when
  // the browser restores the page from its cache.
  window.addEventListener("pageshow", watch);
} else {
  say("This link names no stream. Ask the publisher for the whole link.");
}
