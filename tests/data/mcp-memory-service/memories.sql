CREATE TABLE memories (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
                        content_hash TEXT UNIQUE NOT NULL,
                        content TEXT NOT NULL,
                        tags TEXT,
                        memory_type TEXT,
                        metadata TEXT,
                        created_at REAL,
                        updated_at REAL,
                        created_at_iso TEXT,
                        updated_at_iso TEXT,
                        deleted_at REAL DEFAULT NULL
                    , store TEXT DEFAULT 'default', parent_id TEXT, version INTEGER DEFAULT 1, confidence REAL DEFAULT 1.0, last_accessed INTEGER, superseded_by TEXT, embedding_pending INTEGER NOT NULL DEFAULT 0);
INSERT INTO memories VALUES(1,'906b39fb77f7ad11ae91f22862732979b8c148a5345fe46b25e8a8046147a8f4','Staging runs on PostgreSQL 17 since March','ops,database','decision','{"ticket": "OPS-12"}',1.79543676185034608845e+09,1.79543676185034608845e+09,'2026-11-23T12:26:01.850346Z','2026-11-23T12:26:01.850346Z',NULL,'default',NULL,1,1.0,NULL,NULL,0);
INSERT INTO memories VALUES(2,'dfb331b8fcf3542692684e7146453d43747cb83eaa478f7abc4f695c6a25a7c2','Größe der Züge: zwei Wagen 🚃','travel','note','{}',1.79543676189984226223e+09,1.79543676189984226223e+09,'2026-11-23T12:26:01.899842Z','2026-11-23T12:26:01.899842Z',NULL,'default',NULL,1,1.0,NULL,NULL,0);
INSERT INTO memories VALUES(3,'5c0ec488b34759d09b48672b0cc8e0322d898c0a6c2d467c4fea1af97778e3f4','To be deleted','untagged','note','{}',1.79543676191127610209e+09,1.79543676191127610209e+09,'2026-11-23T12:26:01.911276Z','2026-11-23T12:26:01.911276Z',1.79543706180174398416e+09,'default',NULL,1,1.0,NULL,NULL,0);
