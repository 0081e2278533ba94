// Shows which node of a cluster does what. Where there is one gateway only, nothing is shown.

import { nodesUrl } from "./endpoints.js";
import { request } from "./request.js";

const INTERVAL_MS = 2000;
const UNKNOWN = "–";
const PUBLISHES = "gets your video, has it transformed and pays";
const PLAYS = "serves the result on this page";

const byId = (id) => document.getElementById(id);

export class NodesView {
  #publisher = null;
  #player = null;
  #listed = [];

  /** The node that has the stream, and the one that serves its result here; null where there is none. */
  roles(roles) {
    if ("publisher" in roles) this.#publisher = roles.publisher ?? null;
    if ("player" in roles) this.#player = roles.player ?? null;
    this.#show();
  }

  /** Show all nodes from now on, where this page may see them: on the gateway's own machine. */
  async watch() {
    if (!(await this.#read())) return;
    setInterval(() => document.hidden || this.#read(), INTERVAL_MS);
  }

  async #read() {
    const answer = await request(nodesUrl()).then((response) => response.json(), () => null);
    if (answer) this.#listed = answer.nodes;
    this.#show();
    return answer !== null;
  }

  #show() {
    const listed = new Map(this.#listed.map((node) => [node.name, node]));
    for (const name of [this.#publisher, this.#player]) if (name && !listed.has(name)) listed.set(name, { name });
    byId("nodes").replaceChildren(...[...listed.values()].map((node) => this.#row(node)));
    byId("nodes-card").hidden = listed.size === 0;
  }

  #row({ name, streams, viewers, draining }) {
    const row = document.createElement("tr");
    const roles = [name === this.#publisher && PUBLISHES, name === this.#player && PLAYS, draining && "is stopping"];
    row.append(
      Object.assign(document.createElement("th"), { scope: "row", textContent: name }),
      ...[streams ?? UNKNOWN, viewers ?? UNKNOWN, roles.filter(Boolean).join("; ")].map((textContent) =>
        Object.assign(document.createElement("td"), { textContent }),
      ),
    );
    row.toggleAttribute("data-used", name === this.#publisher || name === this.#player);
    return row;
  }
}
