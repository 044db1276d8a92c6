BEGIN TRANSACTION;
CREATE TABLE keys (slot TEXT NOT NULL REFERENCES slots(id) ON DELETE CASCADE, fingerprint TEXT NOT NULL, [key] BLOB NOT NULL, PRIMARY KEY (slot, fingerprint));
INSERT INTO "keys" VALUES('slot-tea-0000001','f1',X'0000803F0000803F0000803F0000803F');
INSERT INTO "keys" VALUES('slot-rex-0000001','f1',X'0000803F0000803F0000803F0000803F');
CREATE TABLE layouts (fingerprint TEXT NOT NULL, dimensions INTEGER NOT NULL, method TEXT NOT NULL, parameters TEXT NOT NULL, fitted TEXT NOT NULL, PRIMARY KEY (fingerprint, dimensions));
INSERT INTO "layouts" VALUES('f1',2,'PCA','{"n": 1}','2026-11-22T21:41:00.000000+00:00');
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "meta" VALUES('changes','12');
INSERT INTO "meta" VALUES('owner','ann');
INSERT INTO "meta" VALUES('history','12');
CREATE TABLE migrations (
	name VARCHAR NOT NULL, 
	at VARCHAR, 
	PRIMARY KEY (name)
);
INSERT INTO "migrations" VALUES('0001 first tables','2026-11-22T17:54:03.632533+00:00');
INSERT INTO "migrations" VALUES('0002 slots remember more','2026-11-22T20:12:22.561631+00:00');
INSERT INTO "migrations" VALUES('0003 maps','2026-11-22T21:40:10.101010+00:00');
CREATE TABLE places (slot TEXT NOT NULL REFERENCES slots(id) ON DELETE CASCADE, fingerprint TEXT NOT NULL, dimensions INTEGER NOT NULL, version INTEGER NOT NULL, anchor BOOLEAN NOT NULL, coordinates BLOB NOT NULL, before BLOB, PRIMARY KEY (slot, fingerprint, dimensions));
INSERT INTO "places" VALUES('slot-rex-0000001','f1',2,2,1,X'000000000000D03F000000000000F8BF',X'000000000000E83F0000000000000440');
CREATE TABLE removed (slot TEXT PRIMARY KEY, changed INTEGER NOT NULL);
INSERT INTO "removed" VALUES('slot-gone-000001',12);
CREATE TABLE sessions (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT, created TEXT NOT NULL, archived BOOLEAN NOT NULL DEFAULT FALSE);
INSERT INTO "sessions" VALUES(1,'session-monday-1','Monday','2026-11-22T17:54:03.635488+00:00',0);
CREATE TABLE slots (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL, said TEXT NOT NULL, speaker TEXT NOT NULL, told TEXT NOT NULL, [when] TEXT, state TEXT NOT NULL, version INTEGER NOT NULL, session TEXT, turn TEXT, span_start INTEGER, span_end INTEGER, score REAL, superseded_by TEXT, changed INTEGER NOT NULL, tags TEXT NOT NULL DEFAULT '[]', pinned BOOLEAN NOT NULL DEFAULT FALSE, document TEXT, position TEXT, reads INTEGER NOT NULL DEFAULT 0, last_read TEXT);
INSERT INTO "slots" VALUES(1,'slot-rex-0000001','My dog is called Max.','My dog is called Rex.','user','2026-11-22T12:00:00+00:00',NULL,'active',2,'session-monday-1','turn-one-0000001',0,21,0.93,NULL,6,'[]',0,NULL,NULL,0,NULL);
INSERT INTO "slots" VALUES(2,'slot-tea-0000001','I have an exam on 27 November 2026.','I have an exam on Friday.','user','2026-11-22T12:00:00+00:00','2026-11-27','deleted',1,'session-monday-1','turn-one-0000001',22,47,0.8,NULL,10,'[]',0,NULL,NULL,0,NULL);
INSERT INTO "slots" VALUES(3,'slot-doc-0000001','The train leaves at nine.','The train leaves at nine.','notes.md','2026-11-22T12:00:00+00:00',NULL,'active',1,NULL,NULL,8,33,NULL,NULL,4,'[]',0,'notes.md',NULL,0,NULL);
INSERT INTO "slots" VALUES(4,'slot-old-0000001','I live in Oslo.','I live in Oslo.','user','2026-11-22T12:00:00+00:00',NULL,'superseded',1,NULL,NULL,NULL,NULL,NULL,'slot-new-0000001',9,'[]',0,NULL,NULL,0,NULL);
INSERT INTO "slots" VALUES(5,'slot-new-0000001','I live in Rome now.','I live in Rome now.','user','2026-11-22T12:00:00+00:00',NULL,'active',1,NULL,NULL,NULL,NULL,NULL,NULL,8,'[]',0,NULL,NULL,0,NULL);
CREATE TABLE turns (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, session TEXT NOT NULL REFERENCES sessions(id), text TEXT NOT NULL, reply TEXT NOT NULL, at TEXT NOT NULL, trace TEXT NOT NULL);
INSERT INTO "turns" VALUES(1,'turn-one-0000001','session-monday-1','My dog is called Rex. I have an exam on Friday. Hello!','Nice!','2026-11-22T12:00:00+00:00','{"writes": [{"slot": {"id": "slot-rex-0000001", "text": "My dog is called Rex.", "said": "My dog is called Rex.", "speaker": "user", "told": "2026-11-22T12:00:00+00:00", "when": null, "state": "active", "version": 1, "session": "session-monday-1", "turn": "turn-one-0000001", "span": [0, 21], "score": 0.93, "superseded_by": null}, "score": 0.93, "relation": "new", "superseded": null, "relation_score": null}, {"slot": {"id": "slot-tea-0000001", "text": "I have an exam on 27 November 2026.", "said": "I have an exam on Friday.", "speaker": "user", "told": "2026-11-22T12:00:00+00:00", "when": "2026-11-27", "state": "active", "version": 1, "session": "session-monday-1", "turn": "turn-one-0000001", "span": [22, 47], "score": 0.8, "superseded_by": null}, "score": 0.8, "relation": "new", "superseded": null, "relation_score": null}], "rejected": [{"text": "Hello!", "said": "Hello!", "span": [48, 54], "speaker": "user", "context": "", "when": null, "score": 0.1, "why": "nothing to remember"}], "reads": [{"slot": {"id": "slot-doc-0000001", "text": "The train leaves at nine.", "said": "The train leaves at nine.", "speaker": "notes.md", "told": "2026-11-22T12:00:00+00:00", "when": null, "state": "active", "version": 1, "session": null, "turn": null, "span": [8, 33], "score": null, "superseded_by": null}, "weight": 0.2, "parts": {"meaning": 1.5}, "given": false}], "null_weight": 0.8, "asked": 0.0, "abstained": false, "stopped": false, "given": "hi", "tokens": 2, "timing": {"total": 0.5}}');
CREATE TABLE versions (seq INTEGER PRIMARY KEY, slot TEXT NOT NULL REFERENCES slots(id) ON DELETE CASCADE, version INTEGER NOT NULL, text TEXT NOT NULL, state TEXT NOT NULL, [by] TEXT NOT NULL, at TEXT NOT NULL, [when] TEXT, superseded_by TEXT, tags TEXT NOT NULL DEFAULT '[]', pinned BOOLEAN NOT NULL DEFAULT FALSE, changed INTEGER NOT NULL DEFAULT 0, batch INTEGER NOT NULL DEFAULT 0, undoes INTEGER);
INSERT INTO "versions" VALUES(1,'slot-rex-0000001',1,'My dog is called Rex.','active','chat','2026-11-22T17:54:03.639582+00:00',NULL,NULL,'[]',0,0,0,NULL);
INSERT INTO "versions" VALUES(2,'slot-tea-0000001',1,'I have an exam on 27 November 2026.','active','chat','2026-11-22T17:54:03.644921+00:00','2026-11-27',NULL,'[]',0,0,0,NULL);
INSERT INTO "versions" VALUES(3,'slot-doc-0000001',1,'The train leaves at nine.','active','ingest','2026-11-22T17:54:03.647081+00:00',NULL,NULL,'[]',0,0,0,NULL);
INSERT INTO "versions" VALUES(4,'slot-rex-0000001',2,'My dog is called Max.','active','user','2026-11-22T17:54:03.684574+00:00',NULL,NULL,'[]',0,0,0,NULL);
INSERT INTO "versions" VALUES(5,'slot-old-0000001',1,'I live in Oslo.','active','user','2026-11-22T17:54:03.687294+00:00',NULL,NULL,'[]',0,0,0,NULL);
INSERT INTO "versions" VALUES(6,'slot-new-0000001',1,'I live in Rome now.','active','chat','2026-11-22T17:54:03.689002+00:00',NULL,NULL,'[]',0,0,0,NULL);
INSERT INTO "versions" VALUES(7,'slot-old-0000001',1,'I live in Oslo.','superseded','chat','2026-11-22T17:54:03.690533+00:00',NULL,'slot-new-0000001','[]',0,0,0,NULL);
INSERT INTO "versions" VALUES(8,'slot-tea-0000001',1,'I have an exam on 27 November 2026.','deleted','user','2026-11-22T17:54:03.692033+00:00','2026-11-27',NULL,'[]',0,0,0,NULL);
CREATE INDEX turns_session ON turns (session, seq);
CREATE INDEX slots_state ON slots (state, seq);
CREATE INDEX slots_changed ON slots (changed);
CREATE INDEX versions_slot ON versions (slot, seq);
CREATE INDEX removed_changed ON removed (changed);
CREATE INDEX versions_batch ON versions (batch);
CREATE INDEX slots_session ON slots (session);
COMMIT;
