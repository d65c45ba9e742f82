-- A SQLite registry of revision 0001, written by the code of that time.
BEGIN TRANSACTION;
CREATE TABLE aliases (
	model_id INTEGER NOT NULL, 
	alias TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	CONSTRAINT pk_aliases PRIMARY KEY (model_id, alias), 
	CONSTRAINT fk_aliases_model_id_version_versions FOREIGN KEY(model_id, version) REFERENCES versions (model_id, version), 
	CONSTRAINT ck_aliases_revision CHECK (revision > 0)
);
INSERT INTO "aliases" VALUES(1,'champion',2,2);
INSERT INTO "aliases" VALUES(1,'staging',3,1);
INSERT INTO "aliases" VALUES(2,'champion',2,3);
INSERT INTO "aliases" VALUES(2,'previous',1,1);
CREATE TABLE events (
	id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	at BIGINT NOT NULL, 
	actor TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	version INTEGER, 
	alias TEXT, 
	previous INTEGER, 
	reason TEXT, 
	payload JSON NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (id), 
	CONSTRAINT fk_events_model_id_models FOREIGN KEY(model_id) REFERENCES models (id), 
	CONSTRAINT fk_events_model_id_version_versions FOREIGN KEY(model_id, version) REFERENCES versions (model_id, version)
);
INSERT INTO "events" VALUES(1,1,1795327838252092,'ada','registered',1,NULL,NULL,NULL,'{}');
INSERT INTO "events" VALUES(2,1,1795327838266792,'ada','registered',2,NULL,NULL,NULL,'{}');
INSERT INTO "events" VALUES(3,1,1795327838275562,'ada','registered',3,NULL,NULL,NULL,'{}');
INSERT INTO "events" VALUES(4,1,1795327838280526,'ada','promoted',1,'champion',NULL,'the first','{}');
INSERT INTO "events" VALUES(5,1,1795327838282931,'bo','promoted',3,'staging',NULL,'to look at','{}');
INSERT INTO "events" VALUES(6,1,1795327838285713,'bo','promoted',2,'champion',1,'better','{"report":{"gain":0.0125,"n":1e+21}}');
INSERT INTO "events" VALUES(7,1,1795327838288001,'ada','refused',NULL,NULL,NULL,'accuracy 0.5 < 0.9, “too low”','{"digest":"9a32ec218a58348acf97e7d61d5bc963757bbb737b1d2cf591d9ac7cf64de6ee","dataset":"dddddddddddddddddddddddddddddddd.dir","evaluation":{"passed":false,"gates":[{"metric":"accuracy","minimum":0.9,"passed":false}]}}');
INSERT INTO "events" VALUES(8,2,1795327838296425,'cy','registered',1,NULL,NULL,NULL,'{}');
INSERT INTO "events" VALUES(9,2,1795327838304616,'cy','registered',2,NULL,NULL,NULL,'{}');
INSERT INTO "events" VALUES(10,2,1795327838308065,'cy','promoted',2,'champion',NULL,'one','{}');
INSERT INTO "events" VALUES(11,2,1795327838310550,'di','promoted',1,'champion',2,'two','{}');
INSERT INTO "events" VALUES(12,2,1795327838313070,'ed','promoted',2,'champion',1,'back','{}');
INSERT INTO "events" VALUES(13,2,1795327838315278,'ed','promoted',1,'previous',NULL,'kept','{}');
INSERT INTO "events" VALUES(14,3,1795327838316747,'cy','refused',NULL,NULL,NULL,'no','{"digest":"1f94d0739ea07ece8a84522eb700e09fa41dca677cc4a794cd731aacbfeeaa22","dataset":"dddddddddddddddddddddddddddddddd.dir","evaluation":{"passed":false,"gates":[{"metric":"accuracy","minimum":0.9,"passed":false}]}}');
CREATE TABLE jobs (
	id TEXT NOT NULL, 
	version_id INTEGER NOT NULL, 
	reference TEXT NOT NULL, 
	alias TEXT, 
	alias_revision INTEGER, 
	state TEXT NOT NULL, 
	input_sha256 TEXT NOT NULL, 
	output TEXT NOT NULL, 
	rows BIGINT, 
	provider TEXT, 
	onnxruntime TEXT, 
	flow_run_id TEXT, 
	error TEXT, 
	started_at BIGINT NOT NULL, 
	finished_at BIGINT, 
	CONSTRAINT pk_jobs PRIMARY KEY (id), 
	CONSTRAINT fk_jobs_version_id_versions FOREIGN KEY(version_id) REFERENCES versions (id), 
	CONSTRAINT ck_jobs_state CHECK (state IN ('running', 'completed', 'failed', 'lost')), 
	CONSTRAINT ck_jobs_input_sha256 CHECK (length(input_sha256) = 64)
);
INSERT INTO "jobs" VALUES('a9e5cd18-13c0-4eff-91b9-e6cfc8a2077f',2,'digits@champion','champion',2,'completed','1111111111111111111111111111111111111111111111111111111111111111','/out/a.parquet',100,'CPUExecutionProvider','1.31.0','flow-1',NULL,1795327838320334,1795327838324021);
INSERT INTO "jobs" VALUES('6c77bbda-db3c-4126-b15b-2a372de9372e',1,'digits:1',NULL,NULL,'failed','2222222222222222222222222222222222222222222222222222222222222222','/out/b.parquet',NULL,NULL,NULL,NULL,'the disk is full',1795327838327187,1795327838328598);
INSERT INTO "jobs" VALUES('f119ac7b-574c-4beb-9c1c-55a07bad9d63',5,'words@champion','champion',3,'lost','3333333333333333333333333333333333333333333333333333333333333333','/out/c.parquet',NULL,NULL,NULL,NULL,NULL,1795327838331687,1795327838334269);
INSERT INTO "jobs" VALUES('477e8128-5175-4f23-b2fd-1296cdc695ea',5,'words@champion','champion',3,'running','3333333333333333333333333333333333333333333333333333333333333333','/out/c.parquet',NULL,NULL,NULL,NULL,NULL,1795327838334499,NULL);
CREATE TABLE models (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	last_version INTEGER NOT NULL, 
	created_at BIGINT NOT NULL, 
	CONSTRAINT pk_models PRIMARY KEY (id), 
	CONSTRAINT uq_models_name UNIQUE (name), 
	CONSTRAINT ck_models_last_version CHECK (last_version >= 0)
);
INSERT INTO "models" VALUES(1,'digits',3,1795327838241870);
INSERT INTO "models" VALUES(2,'words',2,1795327838294539);
INSERT INTO "models" VALUES(3,'drafts',0,1795327838316566);
CREATE TABLE registry_alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT registry_alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "registry_alembic_version" VALUES('0001');
CREATE TABLE version_artifacts (
	version_id INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	sha256 TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	identity BOOLEAN NOT NULL, 
	CONSTRAINT pk_version_artifacts PRIMARY KEY (version_id, path), 
	CONSTRAINT fk_version_artifacts_version_id_versions FOREIGN KEY(version_id) REFERENCES versions (id), 
	CONSTRAINT ck_version_artifacts_sha256 CHECK (length(sha256) = 64), 
	CONSTRAINT ck_version_artifacts_size CHECK (size >= 0)
);
INSERT INTO "version_artifacts" VALUES(1,'card.md','7db092b7c2f68f372b3b21e875b3811de556a34c8c797f9682e637d5526166a8',6,0);
INSERT INTO "version_artifacts" VALUES(1,'model.onnx','cd36b49d7b2a8b5e4e13663cb54c5e1338c17b7d3af1c506fb3842bd08291822',7,1);
INSERT INTO "version_artifacts" VALUES(1,'signature.json','44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a',2,1);
INSERT INTO "version_artifacts" VALUES(2,'card.md','7db092b7c2f68f372b3b21e875b3811de556a34c8c797f9682e637d5526166a8',6,0);
INSERT INTO "version_artifacts" VALUES(2,'model.onnx','97e2521720cb4b3821c7ed9df7dbca7a63e04b42ba05ffe3e15dc992f227ae36',7,1);
INSERT INTO "version_artifacts" VALUES(2,'signature.json','44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a',2,1);
INSERT INTO "version_artifacts" VALUES(3,'card.md','7db092b7c2f68f372b3b21e875b3811de556a34c8c797f9682e637d5526166a8',6,0);
INSERT INTO "version_artifacts" VALUES(3,'model.onnx','a63f0dfe98cc2a03a21873a3ab0d209eae44045e3810b79a104d42783e2ca194',7,1);
INSERT INTO "version_artifacts" VALUES(3,'signature.json','44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a',2,1);
INSERT INTO "version_artifacts" VALUES(4,'card.md','7db092b7c2f68f372b3b21e875b3811de556a34c8c797f9682e637d5526166a8',6,0);
INSERT INTO "version_artifacts" VALUES(4,'model.onnx','09a1f585ca14d8eb4d0828a796cc026fcdaa1d1ecadddc36cfcc7ef4b8715022',7,1);
INSERT INTO "version_artifacts" VALUES(4,'signature.json','44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a',2,1);
INSERT INTO "version_artifacts" VALUES(5,'card.md','7db092b7c2f68f372b3b21e875b3811de556a34c8c797f9682e637d5526166a8',6,0);
INSERT INTO "version_artifacts" VALUES(5,'model.onnx','c69d63c4880395f10e706bc8468b3b3e7709cf0c344efaf3d5e9a3eaed39cb89',7,1);
INSERT INTO "version_artifacts" VALUES(5,'signature.json','44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a',2,1);
CREATE TABLE version_metrics (
	version_id INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	value DOUBLE NOT NULL, 
	CONSTRAINT pk_version_metrics PRIMARY KEY (version_id, "key"), 
	CONSTRAINT fk_version_metrics_version_id_versions FOREIGN KEY(version_id) REFERENCES versions (id)
);
INSERT INTO "version_metrics" VALUES(1,'accuracy',0.975);
INSERT INTO "version_metrics" VALUES(1,'f1',3.33333333333333314829e-01);
INSERT INTO "version_metrics" VALUES(2,'accuracy',3.00000000000000044408e-01);
INSERT INTO "version_metrics" VALUES(2,'loss',1.0e-300);
INSERT INTO "version_metrics" VALUES(3,'accuracy',0.975);
INSERT INTO "version_metrics" VALUES(3,'f1',3.33333333333333314829e-01);
INSERT INTO "version_metrics" VALUES(4,'accuracy',0.975);
INSERT INTO "version_metrics" VALUES(4,'f1',3.33333333333333314829e-01);
INSERT INTO "version_metrics" VALUES(5,'accuracy',0.975);
INSERT INTO "version_metrics" VALUES(5,'f1',3.33333333333333314829e-01);
CREATE TABLE versions (
	id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	dataset TEXT NOT NULL, 
	test_split TEXT NOT NULL, 
	signature JSON NOT NULL, 
	params JSON NOT NULL, 
	evaluation JSON NOT NULL, 
	git_commit TEXT, 
	git_dirty BOOLEAN NOT NULL, 
	flow_run_id TEXT, 
	libraries JSON NOT NULL, 
	created_at BIGINT NOT NULL, 
	created_by TEXT NOT NULL, 
	CONSTRAINT pk_versions PRIMARY KEY (id), 
	CONSTRAINT fk_versions_model_id_models FOREIGN KEY(model_id) REFERENCES models (id), 
	CONSTRAINT uq_versions_model_id_version UNIQUE (model_id, version), 
	CONSTRAINT uq_versions_model_id_digest_dataset UNIQUE (model_id, digest, dataset), 
	CONSTRAINT ck_versions_version CHECK (version > 0), 
	CONSTRAINT ck_versions_digest CHECK (length(digest) = 64)
);
INSERT INTO "versions" VALUES(1,1,1,'230bd1538629c820bb0fdc7aff8f8fb9823068ea8af9ec4d70585526db692095','dddddddddddddddddddddddddddddddd.dir','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee','{"inputs":[{"name":"x","shape":[null,64]}]}','{"train":{"epochs":3,"optimizer":{"name":"adam","learning_rate":0.001},"architecture":{"name":"mlp","widths":[64,32]},"resume":null,"amp":false},"prepare":{"source":{"labels":["größer","kleiner"]},"options":{}},"seed":1}','{"passed":true,"gates":[{"metric":"accuracy","minimum":0.9,"passed":true}]}','cccccccccccccccccccccccccccccccccccccccc',0,NULL,'{"onnxruntime":"1.31.0"}',1795327838246238,'ada');
INSERT INTO "versions" VALUES(2,1,2,'1c7c0a2c9386820aa2412ae16a2af37c46cd9179b60b2d137b7f02ec29e18526','dddddddddddddddddddddddddddddddd.dir','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee','{"inputs":[{"name":"x","shape":[null,64]}]}','{"train":{"epochs":3,"optimizer":{"name":"adam","learning_rate":0.001},"architecture":{"name":"mlp","widths":[64,32]},"resume":null,"amp":false},"prepare":{"source":{"labels":["größer","kleiner"]},"options":{}},"seed":2}','{"passed":true,"gates":[{"metric":"accuracy","minimum":0.9,"passed":true}]}',NULL,1,'ffffffff','{"onnxruntime":"1.31.0"}',1795327838265665,'ada');
INSERT INTO "versions" VALUES(3,1,3,'3c936d854e682233a1dbe04c3bb88dcd37f1345948fbc86903e742327e630c9e','dddddddddddddddddddddddddddddddd.dir','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee','{"inputs":[{"name":"x","shape":[null,64]}]}','{"train":{"epochs":3,"optimizer":{"name":"adam","learning_rate":0.001},"architecture":{"name":"mlp","widths":[64,32]},"resume":null,"amp":false},"prepare":{"source":{"labels":["größer","kleiner"]},"options":{}},"seed":3}','{"passed":true,"gates":[{"metric":"accuracy","minimum":0.9,"passed":true}]}','cccccccccccccccccccccccccccccccccccccccc',0,NULL,'{"onnxruntime":"1.31.0"}',1795327838274501,'ada');
INSERT INTO "versions" VALUES(4,2,1,'b90273d5a6b7efc270e5d9aa1235f75d9eabb70fe30c9982a7268d6883a7a62e','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.dir','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee','{"inputs":[{"name":"x","shape":[null,64]}]}','{"train":{"epochs":3,"optimizer":{"name":"adam"}}}','{"passed":true,"gates":[{"metric":"accuracy","minimum":0.9,"passed":true}]}','cccccccccccccccccccccccccccccccccccccccc',0,NULL,'{"onnxruntime":"1.31.0"}',1795327838295310,'cy');
INSERT INTO "versions" VALUES(5,2,2,'1f94d0739ea07ece8a84522eb700e09fa41dca677cc4a794cd731aacbfeeaa22','dddddddddddddddddddddddddddddddd.dir','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee','{"inputs":[{"name":"x","shape":[null,64]}]}','{"train":{"epochs":3,"optimizer":{"name":"adam"}}}','{"passed":true,"gates":[{"metric":"accuracy","minimum":0.9,"passed":true}]}','cccccccccccccccccccccccccccccccccccccccc',0,NULL,'{"onnxruntime":"1.31.0"}',1795327838303477,'cy');
CREATE INDEX ix_versions_digest ON versions (digest);
CREATE INDEX ix_versions_dataset ON versions (dataset);
CREATE INDEX ix_version_artifacts_sha256 ON version_artifacts (sha256);
CREATE INDEX ix_version_metrics_key_value_version_id ON version_metrics ("key", value, version_id);
CREATE INDEX ix_events_model_id ON events (model_id);
CREATE INDEX ix_jobs_version_id ON jobs (version_id);
CREATE INDEX ix_jobs_output ON jobs (output);
CREATE TRIGGER versions_refuses_update BEFORE UPDATE ON versions BEGIN SELECT RAISE(ABORT, 'versions is append-only: UPDATE refused'); END;
CREATE TRIGGER versions_refuses_delete BEFORE DELETE ON versions BEGIN SELECT RAISE(ABORT, 'versions is append-only: DELETE refused'); END;
CREATE TRIGGER version_artifacts_refuses_update BEFORE UPDATE ON version_artifacts BEGIN SELECT RAISE(ABORT, 'version_artifacts is append-only: UPDATE refused'); END;
CREATE TRIGGER version_artifacts_refuses_delete BEFORE DELETE ON version_artifacts BEGIN SELECT RAISE(ABORT, 'version_artifacts is append-only: DELETE refused'); END;
CREATE TRIGGER version_metrics_refuses_update BEFORE UPDATE ON version_metrics BEGIN SELECT RAISE(ABORT, 'version_metrics is append-only: UPDATE refused'); END;
CREATE TRIGGER version_metrics_refuses_delete BEFORE DELETE ON version_metrics BEGIN SELECT RAISE(ABORT, 'version_metrics is append-only: DELETE refused'); END;
CREATE TRIGGER events_refuses_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events is append-only: UPDATE refused'); END;
CREATE TRIGGER events_refuses_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events is append-only: DELETE refused'); END;
COMMIT;
