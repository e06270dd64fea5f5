// What <moq-watch> paints and plays is judged.
import { listen, look } from "/judge.js";

const player = document.querySelector("moq-watch"), canvas = document.querySelector("canvas");

// Looks when all of this frame's callbacks, the player's too, have painted.
const frame = now => {
  setTimeout(() => look(canvas, now));
  requestAnimationFrame(frame);
};
requestAnimationFrame(frame);

let heard;
setInterval(() => {
  const root = player.audio?.out.root.peek();
  if (root && root !== heard) listen((heard = root));
}, 50);
