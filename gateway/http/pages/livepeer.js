// The package's entry: publish, watch, change and follow streams of a livepeer-live-gateway.

export { LiveStream } from "./livestream.js";
export { Publication } from "./publication.js";
export { Player } from "./player.js";
export { readEvents } from "./events.js";
export { NoH264 } from "./peer.js";
export { NotReached, Refused } from "./request.js";
