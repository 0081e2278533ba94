-- A ledger as the first gateways wrote it, whose schema was numbered in a table: one session, one payment.
CREATE TABLE schema_version (version INTEGER NOT NULL, wall_ns BIGINT NOT NULL, PRIMARY KEY (version));
INSERT INTO schema_version VALUES (1, 1780000000000000000);
CREATE TABLE sessions (
    id VARCHAR(32) NOT NULL, run VARCHAR(32) NOT NULL, stream TEXT NOT NULL, stream_id TEXT NOT NULL,
    request_id TEXT NOT NULL, sender VARCHAR(42) NOT NULL, orchestrator_address VARCHAR(42) NOT NULL,
    orchestrator_url TEXT NOT NULL, orchestrator_addr TEXT NOT NULL, price TEXT NOT NULL, ceiling TEXT,
    interval_ns BIGINT NOT NULL, wall_ns BIGINT NOT NULL, monotonic_ns BIGINT NOT NULL, PRIMARY KEY (id));
CREATE INDEX sessions_stream_id ON sessions (stream_id);
CREATE TABLE payments (
    id VARCHAR(48) NOT NULL, session_id VARCHAR(32) NOT NULL, number INTEGER NOT NULL,
    manifest_id TEXT NOT NULL, tickets INTEGER NOT NULL, face_value TEXT NOT NULL, win_prob TEXT NOT NULL,
    ticket_ev TEXT NOT NULL, value TEXT NOT NULL, price TEXT NOT NULL, first_nonce BIGINT NOT NULL,
    last_nonce BIGINT NOT NULL, recipient_rand_hash VARCHAR(64) NOT NULL, PRIMARY KEY (id),
    UNIQUE (session_id, number), FOREIGN KEY(session_id) REFERENCES sessions (id));
CREATE TABLE steps (
    id INTEGER NOT NULL, session_id VARCHAR(32) NOT NULL, payment_id VARCHAR(48), step VARCHAR(16) NOT NULL,
    reason TEXT, detail TEXT NOT NULL, run VARCHAR(32) NOT NULL, wall_ns BIGINT NOT NULL,
    monotonic_ns BIGINT NOT NULL, PRIMARY KEY (id), FOREIGN KEY(session_id) REFERENCES sessions (id));
CREATE INDEX steps_session ON steps (session_id);
CREATE INDEX steps_payment ON steps (payment_id);
INSERT INTO sessions VALUES ('s1', 'run1', 'cam', 'cam', 'r1', '0x00', '0x01', 'https://127.0.0.1:8935',
    '127.0.0.1:8935', '1000000000000000', NULL, 5000000000, 1780000000000000000, 1000);
INSERT INTO payments VALUES ('s1-1', 's1', 1, '', 3, '1000000000000000',
    '115792089237316195423570985008687907853269984665640564039457584007913129639935', '1000000000000000',
    '3000000000000000', '1000000000000000', 1, 3, '01');
INSERT INTO steps VALUES (1, 's1', 's1-1', 'intended', NULL, '', 'run1', 1780000000000000001, 1001);
INSERT INTO steps VALUES (2, 's1', 's1-1', 'signed', NULL, '', 'run1', 1780000000000000002, 1002);
INSERT INTO steps VALUES (3, 's1', 's1-1', 'delivered', NULL, 'job start', 'run1', 1780000000000000003, 1003);
INSERT INTO steps VALUES (4, 's1', 's1-1', 'credited', NULL, '', 'run1', 1780000000000000004, 1004);
INSERT INTO steps VALUES (5, 's1', NULL, 'closed', 'deleted', '', 'run1', 1780000000000000005, 1005);
