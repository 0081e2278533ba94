/** Publish, watch, change and follow streams of a livepeer-live-gateway, in a browser. */

/** The gateway or a proxy refused; `code` is for programs, `detail` says what to do. */
export class Refused extends Error {
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly candidates: Candidate[];
}
/** No answer came. */
export class NotReached extends Error {}
/** The browser has no H.264, the one video codec that the gateway takes. */
export class NoH264 extends Error {}

export interface Tokens {
  publishToken?: string;
  playToken?: string;
}

/** The query of a publish; see docs/api.md. */
export interface PublishOptions {
  /** Parameters for the worker, from its start on. */
  params?: Record<string, unknown>;
  pipeline?: string;
  streamId?: string;
  orchestrator?: string;
  standby?: "true" | "false";
  /** Milliseconds for which to try again after the connection was lost; 10,000 by default. */
  resumeMs?: number;
}

export interface Candidate {
  url: string;
  kind?: string;
  price_wei_per_second: string | null;
  verdict: string;
  detail: string | null;
}

export interface Orchestrator {
  url: string;
  kind: "job" | "runner" | "comfystream";
  address: string;
  price_wei_per_second: string | null;
  manifest_id?: string;
  app?: string;
}

/** Wei are decimal strings: use BigInt. */
export interface Payments {
  accepted: number;
  tickets: number;
  credited_wei: string;
  owed_wei: string;
  overpaid_wei: string;
  last_accepted_age_s: number | null;
  next_due_in_s: number | null;
  credit_left_s: number | null;
  state: "ok" | "waiting" | "failing";
  alarms: number;
}

/** The fields of `gateway_status` in docs/api.md. */
export interface Status {
  state: "starting" | "waiting_for_key_frame" | "live" | "swapping" | "waiting_for_publisher" | "ended";
  stream: string;
  request_id: string;
  whep_url: string;
  started_at: string;
  elapsed_s: number;
  first_frame_s: number | null;
  orchestrator: Orchestrator | null;
  candidates: Candidate[];
  swaps: number;
  resumed: number;
  payments: Payments | null;
  ingest: Record<string, unknown> | null;
  output: Record<string, unknown>;
  error: { error_message: string; error_time: number } | null;
  ended: { reason: string; detail: string; at: string } | null;
  /** What the worker says of itself. */
  worker: Record<string, unknown>;
}

export type EventType =
  | "stream.created"
  | "stream.live"
  | "stream.swapped"
  | "stream.standby"
  | "stream.ended"
  | "payment.failed"
  | "limit.near"
  | "orchestrator.suspended"
  | "node.draining"
  | "events.dropped"
  | "worker";

/** One event; what is in `data` is in docs/events.md. `worker` has no id. */
export interface StreamEvent {
  id?: string;
  type: EventType;
  timestamp: string;
  data: Record<string, unknown>;
}

export interface PublicationEvents {
  reconnecting: Event;
  connected: Event;
  /** `detail` is the error, or null after `stop` and `leave`. */
  ended: CustomEvent<Error | null>;
}

/** A stream that this page publishes; it publishes again where the connection is lost. */
export class Publication extends EventTarget {
  readonly connection: RTCPeerConnection | null;
  readonly over: boolean;
  /** End the stream, and what it costs. */
  stop(): Promise<void>;
  /** Leave without ending it: who publishes the name again soon goes on with the paid job. */
  leave(): Promise<void>;
  addEventListener<K extends keyof PublicationEvents>(
    type: K,
    listener: (event: PublicationEvents[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

export interface PlayerListeners {
  playing?(): void;
  waiting?(): void;
  problem?(error: Error): void;
}

/** Plays a stream, and connects again after every failure. */
export class Player {
  readonly connection: RTCPeerConnection | null;
  stop(): void;
}

export interface EventOptions {
  /** Begin after the event with this id; `all` for the last ones. */
  after?: string;
  signal?: AbortSignal;
}

/** The answer of `POST live/video-to-video`. */
export interface CreatedStream {
  whip_url: string;
  whep_url: string;
  status_url?: string;
  events_url?: string;
  publish_token?: string;
  play_token?: string;
}

export class LiveStream {
  constructor(gateway: string | URL, name: string, tokens?: Tokens);
  static created(answer: CreatedStream, base?: string | URL): LiveStream;
  readonly name: string;
  /** Resolves when the gateway has accepted. Throws Refused, NotReached or NoH264. */
  publish(media: MediaStream, options?: PublishOptions): Promise<Publication>;
  watch(video: HTMLVideoElement, on?: PlayerListeners): Player;
  /** All parameters of the worker: an update is the whole set. */
  update(params: Record<string, unknown>): Promise<Record<string, unknown>>;
  status(): Promise<Status>;
  payments(): Promise<Record<string, unknown>>;
  events(options?: EventOptions): AsyncGenerator<StreamEvent, void, void>;
}

export function readEvents(
  url: string | URL,
  options?: EventOptions & { token?: string },
): AsyncGenerator<StreamEvent, void, void>;
