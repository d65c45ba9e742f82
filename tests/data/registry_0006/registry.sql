BEGIN TRANSACTION;
CREATE TABLE aliases (
	model_id INTEGER NOT NULL, 
	alias TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	revision INTEGER NOT NULL, 
	CONSTRAINT pk_aliases PRIMARY KEY (model_id, alias), 
	CONSTRAINT fk_aliases_model_id_version_status_version_state FOREIGN KEY(model_id, version, status) REFERENCES version_state (model_id, version, status) ON UPDATE CASCADE, 
	CONSTRAINT ck_aliases_archived CHECK (status <> 'archived'), 
	CONSTRAINT ck_aliases_champion CHECK (alias <> 'champion' OR status = 'approved'), 
	CONSTRAINT ck_aliases_revision CHECK (revision > 0)
);
INSERT INTO "aliases" VALUES(1,'champion',2,'approved',4);
INSERT INTO "aliases" VALUES(1,'eu',2,'approved',2);
INSERT INTO "aliases" VALUES(1,'staging',2,'approved',1);
CREATE TABLE approvals (
	id INTEGER NOT NULL, 
	version_id INTEGER NOT NULL, 
	evaluation_id INTEGER NOT NULL, 
	passed BOOLEAN NOT NULL, 
	approver TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	CONSTRAINT pk_approvals PRIMARY KEY (id), 
	CONSTRAINT fk_approvals_version_id_versions FOREIGN KEY(version_id) REFERENCES versions (id), 
	CONSTRAINT fk_approvals_evaluation_id_version_id_passed_evaluations FOREIGN KEY(evaluation_id, version_id, passed) REFERENCES evaluations (id, version_id, passed), 
	CONSTRAINT uq_approvals_id_version_id UNIQUE (id, version_id), 
	CONSTRAINT ck_approvals_passed CHECK (passed)
);
INSERT INTO "approvals" VALUES(1,1,1,1,'cy','agrees with last year',1796029674381692);
INSERT INTO "approvals" VALUES(2,2,6,1,'cy','agrees with last year',1796029674527128);
CREATE TABLE blobs (
	sha256 TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	touched BIGINT NOT NULL, 
	purged_at BIGINT, 
	CONSTRAINT pk_blobs PRIMARY KEY (sha256), 
	CONSTRAINT ck_blobs_sha256 CHECK (length(sha256) = 64), 
	CONSTRAINT ck_blobs_size CHECK (size >= 0)
);
INSERT INTO "blobs" VALUES('1d0fd5f0ecd67dd6ea8a70eb3ff654c4c8c8837d3ed389cd7b4fffe14ea9dd4f',1716,1796029661631010,NULL);
INSERT INTO "blobs" VALUES('1ff4444c0eac49f449f64e2cef1e6cb0a6b05e631aa48177e2825febb270cde2',1288,1796029661631010,NULL);
INSERT INTO "blobs" VALUES('422fc4b9d317038bd4644534580519d8be2a5d6fafdba72420892c4b5347aa4e',448,1796029661632016,NULL);
INSERT INTO "blobs" VALUES('6d3682587a54fee6747faf7990835accda891e4fab22456ec690c0138e1f652b',23,1796029661632016,NULL);
INSERT INTO "blobs" VALUES('927f090f081fd7801c6bd3e15383c92099aa4d002e7a26e229dbcb331d1549a1',925,1796029661632016,NULL);
INSERT INTO "blobs" VALUES('b22a47708596192148bb3f364231ca21e3aab87e7fb65f49897fbbff4a5f061b',874,1796029661632016,NULL);
INSERT INTO "blobs" VALUES('e436195f581829ed0094e093635cbdd649a5bb9dd203693754f23df36a4e108d',1693,1796029661632016,NULL);
INSERT INTO "blobs" VALUES('aff40daba8441abea6f7f331e09de857acfc6cbc97a3bedc1b7ed82e82a9cdd8',926,1796029670379987,NULL);
INSERT INTO "blobs" VALUES('ecb26358ef41e80f90a9152ac44e524f061ded5fc8f9a5c156d158020371f8cf',927,1796029672154992,NULL);
INSERT INTO "blobs" VALUES('5d59db6001ee510be6df88101a3b2e7e5e1a846cbd3afa691ff11b1bbce27c59',928,1796029673787009,1796029674939005);
INSERT INTO "blobs" VALUES('6273e7d4e757545b23b5392a837e6da4063a2b11882e1f07662b5c5b70c006b4',929,1796029674037984,NULL);
INSERT INTO "blobs" VALUES('956276ca01e1b938a526bcdd2b5fec4d52cc6153c4ddb936945b3bfe75b35f03',931,1796029682536992,NULL);
CREATE TABLE evaluations (
	id INTEGER NOT NULL, 
	version_id INTEGER NOT NULL, 
	passed BOOLEAN NOT NULL, 
	report JSON NOT NULL, 
	at BIGINT NOT NULL, 
	actor TEXT NOT NULL, 
	CONSTRAINT pk_evaluations PRIMARY KEY (id), 
	CONSTRAINT fk_evaluations_version_id_versions FOREIGN KEY(version_id) REFERENCES versions (id), 
	CONSTRAINT uq_evaluations_id_version_id_passed UNIQUE (id, version_id, passed)
);
INSERT INTO "evaluations" VALUES(1,1,1,'{"passed":true,"gates":[{"gate":"r2","value":0.9998288676752618,"condition":">= 0.5","passed":true}],"parity":{"rows":12,"batch_sizes":[1,7,12],"tolerance":0.0001,"max_error":0.0,"flipped":0,"passed":true},"test_split":{"rows":12,"sha256":"d2564a8ebd1b3af0db58eeafe10a672b5647f3c52bcf87ed0326f13065ff5e5b"},"metrics":{"rows":12,"headline":["r2","mae"],"summary":{"r2":0.9998288676752618,"mae":440.06947456018133,"rmse":533.2036902443314,"mse":284306.17529017286},"per_class":{},"confusion":[],"calibration":[]},"data":{"rows_in":60,"dropped":{"missing":0,"duplicates":0},"rows":{"train":42,"validation":6,"test":12},"duplicates":{"rule":"keep","dropped":0,"equal_raw_rows":0,"equal_features_and_target":0,"equal_features":2},"test_rows_also_in_train":{"test_rows":12,"equal_features":0,"equal_features_and_target":0},"notices":[]},"libraries":{"onnx":"1.23.2","onnxscript":"0.7.2","onnxruntime-gpu":"1.31.1","scikit-learn":"1.9.1","pyarrow":"26.0.1","torch":"2.13.0+cpu","lightning-fabric":"2.6.6","numpy":"2.4.6"},"parameters":{"export":{"opset":20,"tolerance":0.0001},"evaluate":{"gates":{"r2":0.5},"batch_size":1024,"calibration_bins":15}}}',1796029663241754,'ada');
INSERT INTO "evaluations" VALUES(2,2,1,'{"passed":true,"gates":[{"gate":"r2","value":0.9998288676752618,"condition":">= 0.5","passed":true}],"parity":{"rows":12,"batch_sizes":[1,7,12],"tolerance":0.0001,"max_error":0.0,"flipped":0,"passed":true},"test_split":{"rows":12,"sha256":"d2564a8ebd1b3af0db58eeafe10a672b5647f3c52bcf87ed0326f13065ff5e5b"},"metrics":{"rows":12,"headline":["r2","mae"],"summary":{"r2":0.9998288676752618,"mae":440.06947456018133,"rmse":533.2036902443314,"mse":284306.17529017286},"per_class":{},"confusion":[],"calibration":[]},"data":{"rows_in":60,"dropped":{"missing":0,"duplicates":0},"rows":{"train":42,"validation":6,"test":12},"duplicates":{"rule":"keep","dropped":0,"equal_raw_rows":0,"equal_features_and_target":0,"equal_features":2},"test_rows_also_in_train":{"test_rows":12,"equal_features":0,"equal_features_and_target":0},"notices":[]},"libraries":{"onnx":"1.23.2","onnxscript":"0.7.2","onnxruntime-gpu":"1.31.1","scikit-learn":"1.9.1","pyarrow":"26.0.1","torch":"2.13.0+cpu","lightning-fabric":"2.6.6","numpy":"2.4.6"},"parameters":{"export":{"opset":20,"tolerance":0.0001},"evaluate":{"gates":{"r2":0.5},"batch_size":1024,"calibration_bins":15}}}',1796029670987662,'ada');
INSERT INTO "evaluations" VALUES(3,3,1,'{"passed":true,"gates":[{"gate":"r2","value":0.9998288676752618,"condition":">= 0.5","passed":true}],"parity":{"rows":12,"batch_sizes":[1,7,12],"tolerance":0.0001,"max_error":0.0,"flipped":0,"passed":true},"test_split":{"rows":12,"sha256":"d2564a8ebd1b3af0db58eeafe10a672b5647f3c52bcf87ed0326f13065ff5e5b"},"metrics":{"rows":12,"headline":["r2","mae"],"summary":{"r2":0.9998288676752618,"mae":440.06947456018133,"rmse":533.2036902443314,"mse":284306.17529017286},"per_class":{},"confusion":[],"calibration":[]},"data":{"rows_in":60,"dropped":{"missing":0,"duplicates":0},"rows":{"train":42,"validation":6,"test":12},"duplicates":{"rule":"keep","dropped":0,"equal_raw_rows":0,"equal_features_and_target":0,"equal_features":2},"test_rows_also_in_train":{"test_rows":12,"equal_features":0,"equal_features_and_target":0},"notices":[]},"libraries":{"onnx":"1.23.2","onnxscript":"0.7.2","onnxruntime-gpu":"1.31.1","scikit-learn":"1.9.1","pyarrow":"26.0.1","torch":"2.13.0+cpu","lightning-fabric":"2.6.6","numpy":"2.4.6"},"parameters":{"export":{"opset":20,"tolerance":0.0001},"evaluate":{"gates":{"r2":0.5},"batch_size":1024,"calibration_bins":15}}}',1796029672324735,'bo');
INSERT INTO "evaluations" VALUES(4,4,1,'{"passed":true,"gates":[{"gate":"r2","value":0.9998288676752618,"condition":">= 0.5","passed":true}],"parity":{"rows":12,"batch_sizes":[1,7,12],"tolerance":0.0001,"max_error":0.0,"flipped":0,"passed":true},"test_split":{"rows":12,"sha256":"d2564a8ebd1b3af0db58eeafe10a672b5647f3c52bcf87ed0326f13065ff5e5b"},"metrics":{"rows":12,"headline":["r2","mae"],"summary":{"r2":0.9998288676752618,"mae":440.06947456018133,"rmse":533.2036902443314,"mse":284306.17529017286},"per_class":{},"confusion":[],"calibration":[]},"data":{"rows_in":60,"dropped":{"missing":0,"duplicates":0},"rows":{"train":42,"validation":6,"test":12},"duplicates":{"rule":"keep","dropped":0,"equal_raw_rows":0,"equal_features_and_target":0,"equal_features":2},"test_rows_also_in_train":{"test_rows":12,"equal_features":0,"equal_features_and_target":0},"notices":[]},"libraries":{"onnx":"1.23.2","onnxscript":"0.7.2","onnxruntime-gpu":"1.31.1","scikit-learn":"1.9.1","pyarrow":"26.0.1","torch":"2.13.0+cpu","lightning-fabric":"2.6.6","numpy":"2.4.6"},"parameters":{"export":{"opset":20,"tolerance":0.0001},"evaluate":{"gates":{"r2":0.5},"batch_size":1024,"calibration_bins":15}}}',1796029673934567,'bo');
INSERT INTO "evaluations" VALUES(5,5,1,'{"passed":true,"gates":[{"gate":"r2","value":0.9998288676752618,"condition":">= 0.5","passed":true}],"parity":{"rows":12,"batch_sizes":[1,7,12],"tolerance":0.0001,"max_error":0.0,"flipped":0,"passed":true},"test_split":{"rows":12,"sha256":"d2564a8ebd1b3af0db58eeafe10a672b5647f3c52bcf87ed0326f13065ff5e5b"},"metrics":{"rows":12,"headline":["r2","mae"],"summary":{"r2":0.9998288676752618,"mae":440.06947456018133,"rmse":533.2036902443314,"mse":284306.17529017286},"per_class":{},"confusion":[],"calibration":[]},"data":{"rows_in":60,"dropped":{"missing":0,"duplicates":0},"rows":{"train":42,"validation":6,"test":12},"duplicates":{"rule":"keep","dropped":0,"equal_raw_rows":0,"equal_features_and_target":0,"equal_features":2},"test_rows_also_in_train":{"test_rows":12,"equal_features":0,"equal_features_and_target":0},"notices":[]},"libraries":{"onnx":"1.23.2","onnxscript":"0.7.2","onnxruntime-gpu":"1.31.1","scikit-learn":"1.9.1","pyarrow":"26.0.1","torch":"2.13.0+cpu","lightning-fabric":"2.6.6","numpy":"2.4.6"},"parameters":{"export":{"opset":20,"tolerance":0.0001},"evaluate":{"gates":{"r2":0.5},"batch_size":1024,"calibration_bins":15}}}',1796029674058136,'bo');
INSERT INTO "evaluations" VALUES(6,2,1,'{"passed":true,"gates":[{"gate":"r2","value":0.9998288676752618,"condition":">= 0.5","passed":true}],"parity":{"rows":12,"batch_sizes":[1,7,12],"tolerance":0.0001,"max_error":0.0,"flipped":0,"passed":true},"test_split":{"rows":12,"sha256":"d2564a8ebd1b3af0db58eeafe10a672b5647f3c52bcf87ed0326f13065ff5e5b"},"metrics":{"rows":12,"headline":["r2","mae"],"summary":{"r2":0.9998288676752618,"mae":440.06947456018133,"rmse":533.2036902443314,"mse":284306.17529017286},"per_class":{},"confusion":[],"calibration":[]},"data":{"rows_in":60,"dropped":{"missing":0,"duplicates":0},"rows":{"train":42,"validation":6,"test":12},"duplicates":{"rule":"keep","dropped":0,"equal_raw_rows":0,"equal_features_and_target":0,"equal_features":2},"test_rows_also_in_train":{"test_rows":12,"equal_features":0,"equal_features_and_target":0},"notices":[]},"libraries":{"onnx":"1.23.2","onnxscript":"0.7.2","onnxruntime-gpu":"1.31.1","scikit-learn":"1.9.1","pyarrow":"26.0.1","torch":"2.13.0+cpu","lightning-fabric":"2.6.6","numpy":"2.4.6"},"parameters":{"export":{"opset":20,"tolerance":0.0001},"evaluate":{"gates":{"r2":0.5},"batch_size":1024,"calibration_bins":15}},"reviewed":"autumn"}',1796029674341809,'cy');
INSERT INTO "evaluations" VALUES(7,6,1,'{"passed":true,"gates":[{"gate":"r2","value":0.9998288676752618,"condition":">= 0.5","passed":true}],"parity":{"rows":12,"batch_sizes":[1,7,12],"tolerance":0.0001,"max_error":0.0,"flipped":0,"passed":true},"test_split":{"rows":12,"sha256":"d2564a8ebd1b3af0db58eeafe10a672b5647f3c52bcf87ed0326f13065ff5e5b"},"metrics":{"rows":12,"headline":["r2","mae"],"summary":{"r2":0.9998288676752618,"mae":440.06947456018133,"rmse":533.2036902443314,"mse":284306.17529017286},"per_class":{},"confusion":[],"calibration":[]},"data":{"rows_in":60,"dropped":{"missing":0,"duplicates":0},"rows":{"train":42,"validation":6,"test":12},"duplicates":{"rule":"keep","dropped":0,"equal_raw_rows":0,"equal_features_and_target":0,"equal_features":2},"test_rows_also_in_train":{"test_rows":12,"equal_features":0,"equal_features_and_target":0},"notices":[]},"libraries":{"onnx":"1.23.2","onnxscript":"0.7.2","onnxruntime-gpu":"1.31.1","scikit-learn":"1.9.1","pyarrow":"26.0.1","torch":"2.13.0+cpu","lightning-fabric":"2.6.6","numpy":"2.4.6"},"parameters":{"export":{"opset":20,"tolerance":0.0001},"evaluate":{"gates":{"r2":0.5},"batch_size":1024,"calibration_bins":15}}}',1796029682564933,'ada');
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
	prev_hash TEXT NOT NULL, 
	hash TEXT NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (id), 
	CONSTRAINT fk_events_model_id_models FOREIGN KEY(model_id) REFERENCES models (id), 
	CONSTRAINT fk_events_model_id_version_versions FOREIGN KEY(model_id, version) REFERENCES versions (model_id, version), 
	CONSTRAINT uq_events_hash UNIQUE (hash), 
	CONSTRAINT uq_events_model_id_prev_hash UNIQUE (model_id, prev_hash), 
	CONSTRAINT ck_events_hash CHECK (length(hash) = 64)
);
INSERT INTO "events" VALUES(1,1,1796029638839389,'cy','policy',NULL,NULL,NULL,NULL,'{"four_eyes":true,"keep_last":null,"keep_days":null,"protected":["champion","eu"],"keep_holders":2}','0000000000000000000000000000000000000000000000000000000000000000','2496a2bb08c52243cd0c429be50815b88cdc9eee108346c849cdd747c36a8954');
INSERT INTO "events" VALUES(2,1,1796029663243591,'ada','registered',1,NULL,NULL,NULL,'{"tags":{"team":"Zürich"},"request":"night-1","record":"42cfd444ea1a4ab7205cc28e11d039efb147c88dc5bcd591022520772434528e","evaluation":"ec5f4901af2552a9e053c347f1abb02ef474a2153c90b68f1bb936d034cafb35"}','2496a2bb08c52243cd0c429be50815b88cdc9eee108346c849cdd747c36a8954','e1a9d778dc6cd889bb215de1ecb36ec5e5e65477244684edea8f78bbd92ecf11');
INSERT INTO "events" VALUES(3,1,1796029670988102,'ada','registered',2,NULL,NULL,NULL,'{"tags":{"team":"Zürich"},"request":null,"record":"694f7a2ed4f6fec1a63a51daa544a59ff420ea653af93cf05207b750e3dc7eff","evaluation":"ec5f4901af2552a9e053c347f1abb02ef474a2153c90b68f1bb936d034cafb35"}','e1a9d778dc6cd889bb215de1ecb36ec5e5e65477244684edea8f78bbd92ecf11','a657e130ed702fc26536c5d7568fa3e457da229f051665697cceb442e794c5df');
INSERT INTO "events" VALUES(4,1,1796029672705391,'bo','registered',3,NULL,NULL,NULL,'{"tags":{},"request":null,"record":"c916a6b7090e290271809705404af1a1fadad20ca66137323e16d718fd6ac434","evaluation":"ec5f4901af2552a9e053c347f1abb02ef474a2153c90b68f1bb936d034cafb35"}','a657e130ed702fc26536c5d7568fa3e457da229f051665697cceb442e794c5df','ef0558340286fd43d5bfcf42d02087b71465fc254da89934d3cbcb32dded535e');
INSERT INTO "events" VALUES(5,1,1796029673934860,'bo','registered',4,NULL,NULL,NULL,'{"tags":{},"request":null,"record":"f68cd83371f8f706f5110ed8c80d5759599f06e685d440cdbb176c405f4b83d8","evaluation":"ec5f4901af2552a9e053c347f1abb02ef474a2153c90b68f1bb936d034cafb35"}','ef0558340286fd43d5bfcf42d02087b71465fc254da89934d3cbcb32dded535e','575959f49abf2905e7d63068d370a72641bfcce4fed20116b0c5e598d879e499');
INSERT INTO "events" VALUES(6,1,1796029674058567,'bo','registered',5,NULL,NULL,NULL,'{"tags":{},"request":null,"record":"541575b5b099ad06b34649951b51283c3b3d529ad76bf9cc6cb221f3e2f0ca77","evaluation":"ec5f4901af2552a9e053c347f1abb02ef474a2153c90b68f1bb936d034cafb35"}','575959f49abf2905e7d63068d370a72641bfcce4fed20116b0c5e598d879e499','96d2829181b7b7a4e44ea706fa0f568ae847141325c5179001ca19dd3419274a');
INSERT INTO "events" VALUES(7,1,1796029674080366,'bo','refused',NULL,NULL,NULL,'r2','{"digest":"6ddd851e8cf6eb9b6ac103116280c8bbf7c569acc5bf95620d866586cad1d6df","dataset":"dddddddddddddddddddddddddddddddd.dir","evaluation":{"passed":false,"gates":[{"gate":"r2","value":0.9998288676752618,"condition":">= 0.5","passed":true}],"parity":{"rows":12,"batch_sizes":[1,7,12],"tolerance":0.0001,"max_error":0.0,"flipped":0,"passed":true},"test_split":{"rows":12,"sha256":"d2564a8ebd1b3af0db58eeafe10a672b5647f3c52bcf87ed0326f13065ff5e5b"},"metrics":{"rows":12,"headline":["r2","mae"],"summary":{"r2":0.9998288676752618,"mae":440.06947456018133,"rmse":533.2036902443314,"mse":284306.17529017286},"per_class":{},"confusion":[],"calibration":[]},"data":{"rows_in":60,"dropped":{"missing":0,"duplicates":0},"rows":{"train":42,"validation":6,"test":12},"duplicates":{"rule":"keep","dropped":0,"equal_raw_rows":0,"equal_features_and_target":0,"equal_features":2},"test_rows_also_in_train":{"test_rows":12,"equal_features":0,"equal_features_and_target":0},"notices":[]},"libraries":{"onnx":"1.23.2","onnxscript":"0.7.2","onnxruntime-gpu":"1.31.1","scikit-learn":"1.9.1","pyarrow":"26.0.1","torch":"2.13.0+cpu","lightning-fabric":"2.6.6","numpy":"2.4.6"},"parameters":{"export":{"opset":20,"tolerance":0.0001},"evaluate":{"gates":{"r2":0.5},"batch_size":1024,"calibration_bins":15}}},"metrics":{"r2":0.9998288676752618,"mae":440.06947456018133,"rmse":533.2036902443314,"mse":284306.17529017286}}','96d2829181b7b7a4e44ea706fa0f568ae847141325c5179001ca19dd3419274a','f6eeaa127343c8a2931704208d4568b7770cbfae2dae8b3def4716d84feea980');
INSERT INTO "events" VALUES(8,1,1796029674155093,'ada','tagged',2,NULL,NULL,NULL,'{"key":"owner","value":"ada"}','f6eeaa127343c8a2931704208d4568b7770cbfae2dae8b3def4716d84feea980','1264dc08b434a5ed62b368d512fea40e88e626ca4594468d15ce6be1b39a3e27');
INSERT INTO "events" VALUES(9,1,1796029674191173,'ada','tagged',2,NULL,NULL,NULL,'{"key":"team","value":null}','1264dc08b434a5ed62b368d512fea40e88e626ca4594468d15ce6be1b39a3e27','c7a7e9e9c9a998ed65a547539d14ab0c3f3cf5ac2ff0343c429b348d2250f183');
INSERT INTO "events" VALUES(10,1,1796029674220214,'ada','noted',2,NULL,NULL,'measured again on the data of autumn','{}','c7a7e9e9c9a998ed65a547539d14ab0c3f3cf5ac2ff0343c429b348d2250f183','230956e4ebfe57a7345323ef473bbc9d3ee5c753ac7cf9c7b86f6ee2028d5bbc');
INSERT INTO "events" VALUES(11,1,1796029674323961,'cy','evaluated',2,NULL,NULL,NULL,'{"evaluation":"c31bbe4757771dc5368867197bf784c5e9403a39c5c5e14a184e1d64a8ac1801","passed":true}','230956e4ebfe57a7345323ef473bbc9d3ee5c753ac7cf9c7b86f6ee2028d5bbc','75cb66c471e4794671e70a41601b1e211c208f64edeaeeebc0a3c0d65b47e41f');
INSERT INTO "events" VALUES(12,1,1796029674406709,'cy','approved',1,NULL,NULL,'agrees with last year','{}','75cb66c471e4794671e70a41601b1e211c208f64edeaeeebc0a3c0d65b47e41f','bd42a285037e1198496f1a0562087427372d640e9dc05c92e298d6ff6d61c697');
INSERT INTO "events" VALUES(13,1,1796029674455222,'cy','promoted',1,'champion',NULL,'better','{}','bd42a285037e1198496f1a0562087427372d640e9dc05c92e298d6ff6d61c697','3c6c1c9279dc422a0b4534032416cb8efd892ac5efdcf7e5227d39dc3ca20235');
INSERT INTO "events" VALUES(14,1,1796029674501544,'cy','promoted',1,'eu',NULL,'better','{}','3c6c1c9279dc422a0b4534032416cb8efd892ac5efdcf7e5227d39dc3ca20235','b1624e01047a7ee01512065179ba8704fc15a3508b9cbe1cbe6ff9a2375de946');
INSERT INTO "events" VALUES(15,1,1796029674527770,'cy','approved',2,NULL,NULL,'agrees with last year','{}','b1624e01047a7ee01512065179ba8704fc15a3508b9cbe1cbe6ff9a2375de946','22f34fead23b34516eb6f21db5d1da4f72daadc7aa113abed6e2ed0401d6843c');
INSERT INTO "events" VALUES(16,1,1796029674565864,'cy','promoted',2,'champion',1,'better','{}','22f34fead23b34516eb6f21db5d1da4f72daadc7aa113abed6e2ed0401d6843c','2539c2155b6c4c918d90d9b57e978de285c0313d37c1f416f8e53038e8e57ec1');
INSERT INTO "events" VALUES(17,1,1796029674588225,'cy','promoted',2,'eu',1,'better','{}','2539c2155b6c4c918d90d9b57e978de285c0313d37c1f416f8e53038e8e57ec1','76cd73ef12e3fe66d0ad74c674c9425a19127bb6b89e38e18886725319917d89');
INSERT INTO "events" VALUES(18,1,1796029674638848,'bo','rolled back',1,'champion',2,'slow','{}','76cd73ef12e3fe66d0ad74c674c9425a19127bb6b89e38e18886725319917d89','da448fb7319f132ec055d5fee948f41a9f07139a2cd4ceb9644b11dcf7939d29');
INSERT INTO "events" VALUES(19,1,1796029674668340,'cy','promoted',2,'champion',1,'fast now','{}','da448fb7319f132ec055d5fee948f41a9f07139a2cd4ceb9644b11dcf7939d29','7c6e7f41e0ad6ce22d3ecf55a6855e881662eac7a072c97ad41afea71986db29');
INSERT INTO "events" VALUES(20,1,1796029674696827,'bo','promoted',3,'challenger',NULL,'please compare','{}','7c6e7f41e0ad6ce22d3ecf55a6855e881662eac7a072c97ad41afea71986db29','bc5e4787a23985e38b1fbb1bdbf527e419517eb03df950c9c5c6124aa87d7c6a');
INSERT INTO "events" VALUES(21,1,1796029674742082,'cy','rejected',3,NULL,NULL,'no gain','{}','bc5e4787a23985e38b1fbb1bdbf527e419517eb03df950c9c5c6124aa87d7c6a','218cbc741c8568b785e3622bfe2f7e2a0935ed7ff68662df9b1e80fa21c21fd2');
INSERT INTO "events" VALUES(22,1,1796029674744305,'cy','unset',NULL,'challenger',3,'was rejected','{}','218cbc741c8568b785e3622bfe2f7e2a0935ed7ff68662df9b1e80fa21c21fd2','1044b9cdebbac73fbe6256f63f70b235a7f99925b96fab291c6233b0bfea906a');
INSERT INTO "events" VALUES(23,1,1796029674776545,'cy','archived',4,NULL,NULL,'a mistake','{}','1044b9cdebbac73fbe6256f63f70b235a7f99925b96fab291c6233b0bfea906a','af2eae688b0eac29ab6557dd11b52e5178dd602223212a90c95ee06d64ca8649');
INSERT INTO "events" VALUES(24,1,1796029674939533,'cy','purged',4,NULL,NULL,NULL,'{"files":["5d59db6001ee510be6df88101a3b2e7e5e1a846cbd3afa691ff11b1bbce27c59"]}','af2eae688b0eac29ab6557dd11b52e5178dd602223212a90c95ee06d64ca8649','0e1159e9812a93ba23621e4ecf07814685698ac3daaf4609e3e087531e7aad41');
INSERT INTO "events" VALUES(25,1,1796029674995831,'cy','archived',5,NULL,NULL,'a mistake, too','{}','0e1159e9812a93ba23621e4ecf07814685698ac3daaf4609e3e087531e7aad41','6daac3ef6c0dad2d051c2436dccad7396b11471cd3c88dc2fbb18b87337cf7d3');
INSERT INTO "events" VALUES(26,1,1796029675066283,'cy','unarchived',5,NULL,NULL,'no, it was not','{}','6daac3ef6c0dad2d051c2436dccad7396b11471cd3c88dc2fbb18b87337cf7d3','b2f2bb8f3b6bc8070eba8033c1285cd498c2574b15845455835e6806e8d46285');
INSERT INTO "events" VALUES(27,1,1796029675110145,'cy','archived',5,NULL,NULL,'but old','{}','b2f2bb8f3b6bc8070eba8033c1285cd498c2574b15845455835e6806e8d46285','23447b33fab0cf603470255f1ff98f81afea3ffb29964203995222a4e2b399b0');
INSERT INTO "events" VALUES(28,1,1796029681125543,'cy','signed',1,NULL,NULL,NULL,'{"key":"2bc70da5731b61f373f70d88d4d67c2a34261e7e66406aca2b529fdeed9b8b41","document":"1e461c70600c81e531c1945f83e21f4a556f3d6c22c28e4c5b3df6c491e2850e"}','23447b33fab0cf603470255f1ff98f81afea3ffb29964203995222a4e2b399b0','ce7522286ead3a11b77a31d3c2388517eeac457e473e3f737f074a7f4d50974e');
INSERT INTO "events" VALUES(29,2,1796029682567923,'ada','imported',1,NULL,NULL,NULL,'{"imported_from":"flats:1","head":"a13f5e26ef866b62614a1d114217062f8b232bc963a609a5195cd20050e07ca5","created_at":"2026-11-30T09:08:02.172999Z","created_by":"di","events":[{"id":1,"model":"flats","at":"2026-11-30T09:08:02.219703Z","actor":"di","kind":"registered","version":1,"alias":null,"previous":null,"reason":null,"payload":{"tags":{"team":"Zürich"},"request":null,"record":"9232bfe8dcac94ce44e6fc5921e2c3f64c17361a6d86f484ea8db020bd0a08ca","evaluation":"ec5f4901af2552a9e053c347f1abb02ef474a2153c90b68f1bb936d034cafb35"},"hash":"a13f5e26ef866b62614a1d114217062f8b232bc963a609a5195cd20050e07ca5"}],"earlier_evaluations":[],"signatures":{},"tags":{"team":"Zürich"},"request":"import:5d8e2c2bf3074bf9a6c2772db47e6e54","record":"2575880a7d909bd6d0f79c2ef7eb197e02842b63295d395ec101a077f3e731d9","evaluation":"ec5f4901af2552a9e053c347f1abb02ef474a2153c90b68f1bb936d034cafb35"}','0000000000000000000000000000000000000000000000000000000000000000','9a952c87d249304cab09a73448ccc02e6ef19fcc7a6d8b558c8ecdd587b1ad03');
INSERT INTO "events" VALUES(30,1,1796029686369984,'bo','promoted',2,'staging',NULL,'after the backup','{}','ce7522286ead3a11b77a31d3c2388517eeac457e473e3f737f074a7f4d50974e','f22fc78f0c78259871d557408812cb5a4b32c9827a3a99a3e97f04ee6d973714');
INSERT INTO "events" VALUES(31,1,1796029686436125,'ada','tagged',2,NULL,NULL,NULL,'{"key":"region","value":"south"}','f22fc78f0c78259871d557408812cb5a4b32c9827a3a99a3e97f04ee6d973714','b92f982aa2ff653ee9c8d755792c9df4604282890f13c500967d582ab7efba61');
CREATE TABLE job_inputs (
	id INTEGER NOT NULL, 
	job_id TEXT NOT NULL, 
	sha256 TEXT NOT NULL, 
	path TEXT NOT NULL, 
	rows BIGINT NOT NULL, 
	CONSTRAINT pk_job_inputs PRIMARY KEY (id), 
	CONSTRAINT fk_job_inputs_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id), 
	CONSTRAINT ck_job_inputs_sha256 CHECK (length(sha256) = 64), 
	CONSTRAINT ck_job_inputs_rows CHECK (rows >= 0)
);
INSERT INTO "job_inputs" VALUES(1,'8efea422-6ea4-4c71-b033-39ae14b0118e','a4df738ea43fc747b202078b6d4a1dfb4c9195f07b0bdd6daf64b2b0cf2c9d14','/srv/homes/homes.csv',4);
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
	finished_at BIGINT, substituted JSON, quarantined BIGINT CONSTRAINT ck_jobs_quarantined CHECK (quarantined >= 0), drift JSON, 
	CONSTRAINT pk_jobs PRIMARY KEY (id), 
	CONSTRAINT fk_jobs_version_id_versions FOREIGN KEY(version_id) REFERENCES versions (id), 
	CONSTRAINT ck_jobs_state CHECK (state IN ('running', 'completed', 'failed', 'lost')), 
	CONSTRAINT ck_jobs_input_sha256 CHECK (length(input_sha256) = 64)
);
INSERT INTO "jobs" VALUES('8efea422-6ea4-4c71-b033-39ae14b0118e',2,'homes@champion','champion',4,'completed','60ecd9cd101d5161bd1b6c23aa5c2e90f150fa39eb5a63292fd72ecd10557fe2','/srv/homes/predictions',3,'CPUExecutionProvider','1.31.1',NULL,NULL,1796029682655445,1796029683121241,'{"area":{"rows":3,"filled":1,"outside":0},"town":{"rows":3,"unknown":1,"filled":0}}',1,'{"format":1,"verdict":null,"reason":"the model was trained by an older release","moved":0,"columns":[],"not_compared":3,"rows":3,"compared":2,"most":[{"name":"area","verdict":null,"measures":[]},{"name":"town","verdict":null,"measures":[]}],"earlier":null,"layout":"4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945","counts":{"columns":{"area":{},"town":{}},"predictions":null}}');
INSERT INTO "jobs" VALUES('b522aad7-cb7e-4641-b8a4-d1159a0808cb',2,'homes@champion','champion',4,'lost','1111111111111111111111111111111111111111111111111111111111111111','/srv/homes/friday',NULL,NULL,NULL,'0e3f6f3e-8d5c-4a5e-9d0a-5f6f3c6f8a12',NULL,1796029683146310,1796029683198544,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('1b9fce6b-1394-463e-90dd-afafbac8ae4f',2,'homes@champion','champion',4,'failed','1111111111111111111111111111111111111111111111111111111111111111','/srv/homes/friday',NULL,NULL,NULL,'0e3f6f3e-8d5c-4a5e-9d0a-5f6f3c6f8a12','OSError: no space left on device',1796029683198178,1796029683230771,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('d5127f71-15e2-43a3-9de3-4a7cfec75799',2,'homes:2',NULL,NULL,'running','1111111111111111111111111111111111111111111111111111111111111111','/srv/homes/monday',NULL,NULL,NULL,'0e3f6f3e-8d5c-4a5e-9d0a-5f6f3c6f8a12',NULL,1796029683291429,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('a4adb9d7-058a-4767-bd58-bd914b7be9a5',1,'homes:1',NULL,NULL,'completed','2222222222222222222222222222222222222222222222222222222222222222','/srv/homes/drift-0',400,'CPU','1.31.1',NULL,NULL,1796029684170055,1796029684219717,NULL,0,'{"format":1,"verdict":"none","reason":null,"moved":0,"columns":[],"not_compared":1,"rows":400,"compared":2,"most":[{"name":"area","verdict":"none","measures":[{"name":"value","now":[0,39,47,43,33,38,34,41,40,45,40,0],"then":[0,139,140,141,139,139,140,140,142,139,141,0],"edges":[30.0,36.349998474121094,42.54999923706055,48.099998474121094,53.349998474121094,59.04999923706055,65.64999389648438,70.94999694824219,77.25,84.25,90.00000762939453],"offset":0.0,"labels":null,"psi":0.0105,"excess":0.0,"js":0.04405,"ks":0.0225,"p":1.0,"verdict":"none"}]},{"name":"town","verdict":"none","measures":[{"name":"value","now":[135,131,134,0],"then":[493,434,473,0],"edges":null,"offset":0.0,"labels":["Bern","Graz","Ulm"],"psi":0.001606,"excess":0.0,"js":0.01702,"ks":null,"p":1.0,"verdict":"none"}]}],"earlier":null,"layout":"14d220559eda850cc7204444277dd1a08f8804fd5cf632573b393c7f0e2d9719","counts":{"columns":{"area":{"value":[0,39,47,43,33,38,34,41,40,45,40,0],"filled":[400,0],"outside":[400,0]},"town":{"value":[135,131,134,0],"filled":[400,0],"unknown":[400,0]}},"predictions":null}}');
INSERT INTO "jobs" VALUES('6060b976-e81e-46ce-986f-93313258818b',1,'homes:1',NULL,NULL,'completed','3333333333333333333333333333333333333333333333333333333333333333','/srv/homes/drift-1',400,'CPU','1.31.1',NULL,NULL,1796029684260549,1796029684335658,NULL,0,'{"format":1,"verdict":"drifted","reason":null,"moved":1,"columns":["area (outside) PSI 14"],"not_compared":1,"rows":400,"compared":2,"most":[{"name":"area","verdict":"drifted","measures":[{"name":"outside","now":[0,400],"then":[600,0],"edges":null,"offset":0.0,"labels":null,"psi":13.75,"excess":13.74,"js":1.0,"ks":null,"p":8.98e-219,"verdict":"drifted"},{"name":"value","now":[0,0,0,0,0,0,0,0,0,0,0,400],"then":[0,139,140,141,139,139,140,140,142,139,141,0],"edges":[30.0,36.349998474121094,42.54999923706055,48.099998474121094,53.349998474121094,59.04999923706055,65.64999389648438,70.94999694824219,77.25,84.25,90.00000762939453],"offset":0.0,"labels":null,"psi":12.17,"excess":12.14,"js":1.0,"ks":1.0,"p":0.0,"verdict":"drifted"}]},{"name":"town","verdict":"none","measures":[{"name":"value","now":[145,136,119,0],"then":[493,434,473,0],"edges":null,"offset":0.0,"labels":["Bern","Graz","Ulm"],"psi":0.008155,"excess":0.001726,"js":0.03846,"ks":null,"p":1.0,"verdict":"none"}]}],"earlier":{"jobs":1,"rows":400,"verdict":"drifted","reason":null,"moved":1,"columns":["area (outside) PSI 13"],"not_compared":1},"layout":"14d220559eda850cc7204444277dd1a08f8804fd5cf632573b393c7f0e2d9719","counts":{"columns":{"area":{"outside":[0,400],"value":[0,0,0,0,0,0,0,0,0,0,0,400],"filled":[400,0]},"town":{"value":[145,136,119,0],"filled":[400,0],"unknown":[400,0]}},"predictions":null}}');
CREATE TABLE models (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	last_version INTEGER NOT NULL, 
	last_event TEXT DEFAULT '0000000000000000000000000000000000000000000000000000000000000000' NOT NULL, 
	created_at BIGINT NOT NULL, 
	four_eyes BOOLEAN DEFAULT 0 NOT NULL, 
	keep_last INTEGER, 
	keep_days INTEGER, keep_holders INTEGER DEFAULT 2 NOT NULL CONSTRAINT ck_models_keep_holders CHECK (keep_holders >= 0), 
	CONSTRAINT pk_models PRIMARY KEY (id), 
	CONSTRAINT uq_models_name UNIQUE (name), 
	CONSTRAINT ck_models_last_version CHECK (last_version >= 0), 
	CONSTRAINT ck_models_keep_last CHECK (keep_last >= 1), 
	CONSTRAINT ck_models_keep_days CHECK (keep_days >= 0)
);
INSERT INTO "models" VALUES(1,'homes',5,'b92f982aa2ff653ee9c8d755792c9df4604282890f13c500967d582ab7efba61',1796029631000470,1,NULL,NULL,2);
INSERT INTO "models" VALUES(2,'flats',1,'9a952c87d249304cab09a73448ccc02e6ef19fcc7a6d8b558c8ecdd587b1ad03',1796029682551960,0,NULL,NULL,2);
CREATE TABLE param_values (
	params_id INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	CONSTRAINT pk_param_values PRIMARY KEY (params_id, "key"), 
	CONSTRAINT fk_param_values_params_id_params FOREIGN KEY(params_id) REFERENCES params (id)
)
 WITHOUT ROWID

;
INSERT INTO "param_values" VALUES(1,'train.epochs','3');
INSERT INTO "param_values" VALUES(1,'train.resume','null');
INSERT INTO "param_values" VALUES(1,'train.widths','[64,32]');
INSERT INTO "param_values" VALUES(2,'train.epochs','4');
INSERT INTO "param_values" VALUES(2,'train.resume','null');
INSERT INTO "param_values" VALUES(2,'train.widths','[64,32]');
INSERT INTO "param_values" VALUES(3,'train.epochs','5');
INSERT INTO "param_values" VALUES(3,'train.resume','null');
INSERT INTO "param_values" VALUES(3,'train.widths','[64,32]');
INSERT INTO "param_values" VALUES(4,'train.epochs','6');
INSERT INTO "param_values" VALUES(4,'train.resume','null');
INSERT INTO "param_values" VALUES(4,'train.widths','[64,32]');
INSERT INTO "param_values" VALUES(5,'train.epochs','7');
INSERT INTO "param_values" VALUES(5,'train.resume','null');
INSERT INTO "param_values" VALUES(5,'train.widths','[64,32]');
INSERT INTO "param_values" VALUES(6,'train.epochs','9');
INSERT INTO "param_values" VALUES(6,'train.resume','null');
INSERT INTO "param_values" VALUES(6,'train.widths','[64,32]');
CREATE TABLE params (
	id INTEGER NOT NULL, 
	sha256 TEXT NOT NULL, 
	document JSON NOT NULL, 
	CONSTRAINT pk_params PRIMARY KEY (id), 
	CONSTRAINT uq_params_sha256 UNIQUE (sha256), 
	CONSTRAINT ck_params_sha256 CHECK (length(sha256) = 64)
);
INSERT INTO "params" VALUES(1,'9533e436958fbee9dfc8db296484c7458ffebdc8e3f4108c01ba80a3b74fc3d7','{"train":{"epochs":3,"resume":null,"widths":[64,32]}}');
INSERT INTO "params" VALUES(2,'b75b0d6bc2e28f3ed2d952d0cfb23d512cf53766efc58d28e1258495a1e01029','{"train":{"epochs":4,"resume":null,"widths":[64,32]}}');
INSERT INTO "params" VALUES(3,'506f7b5a3b6eec8f8fab52b9c74331cf08c926a5a297ada3bb214b3269db89bd','{"train":{"epochs":5,"resume":null,"widths":[64,32]}}');
INSERT INTO "params" VALUES(4,'0a6e0a7c751ce6b4c3b0d96c582077101d9b05c75a0a89e45f84c5d8802495cd','{"train":{"epochs":6,"resume":null,"widths":[64,32]}}');
INSERT INTO "params" VALUES(5,'a5c65ad0630fd1bd0c95f6ef5d4352b77d2fd20368a87e58473f114c9f129852','{"train":{"epochs":7,"resume":null,"widths":[64,32]}}');
INSERT INTO "params" VALUES(6,'5704a46874921217ffdd6b604360289ee106df4e34ce3d91b96d73ca5ada38a8','{"train":{"epochs":9,"resume":null,"widths":[64,32]}}');
CREATE TABLE protected_aliases (
	model_id INTEGER NOT NULL, 
	alias TEXT NOT NULL, 
	CONSTRAINT pk_protected_aliases PRIMARY KEY (model_id, alias), 
	CONSTRAINT fk_protected_aliases_model_id_models FOREIGN KEY(model_id) REFERENCES models (id)
)
 WITHOUT ROWID

;
INSERT INTO "protected_aliases" VALUES(1,'eu');
CREATE TABLE registry (
	id TEXT NOT NULL, 
	store TEXT, 
	created_at BIGINT NOT NULL, 
	CONSTRAINT pk_registry PRIMARY KEY (id), 
	CONSTRAINT ck_registry_id CHECK (length(id) = 32)
);
INSERT INTO "registry" VALUES('7413ab45472a41d6ba86db61b00d6c83','09f30d0cf7334b15b762017dbee73234',1796029624307587);
CREATE TABLE registry_alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT registry_alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "registry_alembic_version" VALUES('0006');
CREATE TABLE version_artifacts (
	version_id INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	sha256 TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	identity BOOLEAN NOT NULL, 
	CONSTRAINT pk_version_artifacts PRIMARY KEY (version_id, path), 
	CONSTRAINT fk_version_artifacts_version_id_versions FOREIGN KEY(version_id) REFERENCES versions (id), 
	CONSTRAINT fk_version_artifacts_sha256_blobs FOREIGN KEY(sha256) REFERENCES blobs (sha256), 
	CONSTRAINT ck_version_artifacts_size CHECK (size >= 0)
)
 WITHOUT ROWID

;
INSERT INTO "version_artifacts" VALUES(1,'architecture.json','6d3682587a54fee6747faf7990835accda891e4fab22456ec690c0138e1f652b',23,0);
INSERT INTO "version_artifacts" VALUES(1,'card.md','b22a47708596192148bb3f364231ca21e3aab87e7fb65f49897fbbff4a5f061b',874,0);
INSERT INTO "version_artifacts" VALUES(1,'evaluation.json','e436195f581829ed0094e093635cbdd649a5bb9dd203693754f23df36a4e108d',1693,0);
INSERT INTO "version_artifacts" VALUES(1,'model.onnx','1ff4444c0eac49f449f64e2cef1e6cb0a6b05e631aa48177e2825febb270cde2',1288,1);
INSERT INTO "version_artifacts" VALUES(1,'profile.json','1d0fd5f0ecd67dd6ea8a70eb3ff654c4c8c8837d3ed389cd7b4fffe14ea9dd4f',1716,0);
INSERT INTO "version_artifacts" VALUES(1,'signature.json','927f090f081fd7801c6bd3e15383c92099aa4d002e7a26e229dbcb331d1549a1',925,1);
INSERT INTO "version_artifacts" VALUES(1,'weights.safetensors','422fc4b9d317038bd4644534580519d8be2a5d6fafdba72420892c4b5347aa4e',448,0);
INSERT INTO "version_artifacts" VALUES(2,'architecture.json','6d3682587a54fee6747faf7990835accda891e4fab22456ec690c0138e1f652b',23,0);
INSERT INTO "version_artifacts" VALUES(2,'card.md','b22a47708596192148bb3f364231ca21e3aab87e7fb65f49897fbbff4a5f061b',874,0);
INSERT INTO "version_artifacts" VALUES(2,'evaluation.json','e436195f581829ed0094e093635cbdd649a5bb9dd203693754f23df36a4e108d',1693,0);
INSERT INTO "version_artifacts" VALUES(2,'model.onnx','1ff4444c0eac49f449f64e2cef1e6cb0a6b05e631aa48177e2825febb270cde2',1288,1);
INSERT INTO "version_artifacts" VALUES(2,'profile.json','1d0fd5f0ecd67dd6ea8a70eb3ff654c4c8c8837d3ed389cd7b4fffe14ea9dd4f',1716,0);
INSERT INTO "version_artifacts" VALUES(2,'signature.json','aff40daba8441abea6f7f331e09de857acfc6cbc97a3bedc1b7ed82e82a9cdd8',926,1);
INSERT INTO "version_artifacts" VALUES(2,'weights.safetensors','422fc4b9d317038bd4644534580519d8be2a5d6fafdba72420892c4b5347aa4e',448,0);
INSERT INTO "version_artifacts" VALUES(3,'architecture.json','6d3682587a54fee6747faf7990835accda891e4fab22456ec690c0138e1f652b',23,0);
INSERT INTO "version_artifacts" VALUES(3,'card.md','b22a47708596192148bb3f364231ca21e3aab87e7fb65f49897fbbff4a5f061b',874,0);
INSERT INTO "version_artifacts" VALUES(3,'evaluation.json','e436195f581829ed0094e093635cbdd649a5bb9dd203693754f23df36a4e108d',1693,0);
INSERT INTO "version_artifacts" VALUES(3,'model.onnx','1ff4444c0eac49f449f64e2cef1e6cb0a6b05e631aa48177e2825febb270cde2',1288,1);
INSERT INTO "version_artifacts" VALUES(3,'profile.json','1d0fd5f0ecd67dd6ea8a70eb3ff654c4c8c8837d3ed389cd7b4fffe14ea9dd4f',1716,0);
INSERT INTO "version_artifacts" VALUES(3,'signature.json','ecb26358ef41e80f90a9152ac44e524f061ded5fc8f9a5c156d158020371f8cf',927,1);
INSERT INTO "version_artifacts" VALUES(3,'weights.safetensors','422fc4b9d317038bd4644534580519d8be2a5d6fafdba72420892c4b5347aa4e',448,0);
INSERT INTO "version_artifacts" VALUES(4,'architecture.json','6d3682587a54fee6747faf7990835accda891e4fab22456ec690c0138e1f652b',23,0);
INSERT INTO "version_artifacts" VALUES(4,'card.md','b22a47708596192148bb3f364231ca21e3aab87e7fb65f49897fbbff4a5f061b',874,0);
INSERT INTO "version_artifacts" VALUES(4,'evaluation.json','e436195f581829ed0094e093635cbdd649a5bb9dd203693754f23df36a4e108d',1693,0);
INSERT INTO "version_artifacts" VALUES(4,'model.onnx','1ff4444c0eac49f449f64e2cef1e6cb0a6b05e631aa48177e2825febb270cde2',1288,1);
INSERT INTO "version_artifacts" VALUES(4,'profile.json','1d0fd5f0ecd67dd6ea8a70eb3ff654c4c8c8837d3ed389cd7b4fffe14ea9dd4f',1716,0);
INSERT INTO "version_artifacts" VALUES(4,'signature.json','5d59db6001ee510be6df88101a3b2e7e5e1a846cbd3afa691ff11b1bbce27c59',928,1);
INSERT INTO "version_artifacts" VALUES(4,'weights.safetensors','422fc4b9d317038bd4644534580519d8be2a5d6fafdba72420892c4b5347aa4e',448,0);
INSERT INTO "version_artifacts" VALUES(5,'architecture.json','6d3682587a54fee6747faf7990835accda891e4fab22456ec690c0138e1f652b',23,0);
INSERT INTO "version_artifacts" VALUES(5,'card.md','b22a47708596192148bb3f364231ca21e3aab87e7fb65f49897fbbff4a5f061b',874,0);
INSERT INTO "version_artifacts" VALUES(5,'evaluation.json','e436195f581829ed0094e093635cbdd649a5bb9dd203693754f23df36a4e108d',1693,0);
INSERT INTO "version_artifacts" VALUES(5,'model.onnx','1ff4444c0eac49f449f64e2cef1e6cb0a6b05e631aa48177e2825febb270cde2',1288,1);
INSERT INTO "version_artifacts" VALUES(5,'profile.json','1d0fd5f0ecd67dd6ea8a70eb3ff654c4c8c8837d3ed389cd7b4fffe14ea9dd4f',1716,0);
INSERT INTO "version_artifacts" VALUES(5,'signature.json','6273e7d4e757545b23b5392a837e6da4063a2b11882e1f07662b5c5b70c006b4',929,1);
INSERT INTO "version_artifacts" VALUES(5,'weights.safetensors','422fc4b9d317038bd4644534580519d8be2a5d6fafdba72420892c4b5347aa4e',448,0);
INSERT INTO "version_artifacts" VALUES(6,'architecture.json','6d3682587a54fee6747faf7990835accda891e4fab22456ec690c0138e1f652b',23,0);
INSERT INTO "version_artifacts" VALUES(6,'card.md','b22a47708596192148bb3f364231ca21e3aab87e7fb65f49897fbbff4a5f061b',874,0);
INSERT INTO "version_artifacts" VALUES(6,'evaluation.json','e436195f581829ed0094e093635cbdd649a5bb9dd203693754f23df36a4e108d',1693,0);
INSERT INTO "version_artifacts" VALUES(6,'model.onnx','1ff4444c0eac49f449f64e2cef1e6cb0a6b05e631aa48177e2825febb270cde2',1288,1);
INSERT INTO "version_artifacts" VALUES(6,'profile.json','1d0fd5f0ecd67dd6ea8a70eb3ff654c4c8c8837d3ed389cd7b4fffe14ea9dd4f',1716,0);
INSERT INTO "version_artifacts" VALUES(6,'signature.json','956276ca01e1b938a526bcdd2b5fec4d52cc6153c4ddb936945b3bfe75b35f03',931,1);
INSERT INTO "version_artifacts" VALUES(6,'weights.safetensors','422fc4b9d317038bd4644534580519d8be2a5d6fafdba72420892c4b5347aa4e',448,0);
CREATE TABLE version_data (
	version_id INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	md5 TEXT NOT NULL, 
	CONSTRAINT pk_version_data PRIMARY KEY (version_id, path), 
	CONSTRAINT fk_version_data_version_id_versions FOREIGN KEY(version_id) REFERENCES versions (id)
)
 WITHOUT ROWID

;
INSERT INTO "version_data" VALUES(1,'data/raw/homes.csv','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
INSERT INTO "version_data" VALUES(2,'data/raw/homes.csv','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
INSERT INTO "version_data" VALUES(3,'data/raw/homes.csv','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
INSERT INTO "version_data" VALUES(4,'data/raw/homes.csv','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
INSERT INTO "version_data" VALUES(5,'data/raw/homes.csv','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
INSERT INTO "version_data" VALUES(6,'data/raw/homes.csv','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
CREATE TABLE version_metrics (
	version_id INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	value DOUBLE NOT NULL, 
	CONSTRAINT pk_version_metrics PRIMARY KEY (version_id, "key"), 
	CONSTRAINT fk_version_metrics_version_id_versions FOREIGN KEY(version_id) REFERENCES versions (id)
)
 WITHOUT ROWID

;
INSERT INTO "version_metrics" VALUES(1,'mae',4.40069474560181333805e+02);
INSERT INTO "version_metrics" VALUES(2,'mae',4.40069474560181333805e+02);
INSERT INTO "version_metrics" VALUES(3,'mae',4.40069474560181333805e+02);
INSERT INTO "version_metrics" VALUES(4,'mae',4.40069474560181333805e+02);
INSERT INTO "version_metrics" VALUES(5,'mae',4.40069474560181333805e+02);
INSERT INTO "version_metrics" VALUES(6,'mae',4.40069474560181333805e+02);
INSERT INTO "version_metrics" VALUES(1,'mse',2.84306175290172861427e+05);
INSERT INTO "version_metrics" VALUES(2,'mse',2.84306175290172861427e+05);
INSERT INTO "version_metrics" VALUES(3,'mse',2.84306175290172861427e+05);
INSERT INTO "version_metrics" VALUES(4,'mse',2.84306175290172861427e+05);
INSERT INTO "version_metrics" VALUES(5,'mse',2.84306175290172861427e+05);
INSERT INTO "version_metrics" VALUES(6,'mse',2.84306175290172861427e+05);
INSERT INTO "version_metrics" VALUES(1,'r2',9.9982886767526180094e-01);
INSERT INTO "version_metrics" VALUES(2,'r2',9.9982886767526180094e-01);
INSERT INTO "version_metrics" VALUES(3,'r2',9.9982886767526180094e-01);
INSERT INTO "version_metrics" VALUES(4,'r2',9.9982886767526180094e-01);
INSERT INTO "version_metrics" VALUES(5,'r2',9.9982886767526180094e-01);
INSERT INTO "version_metrics" VALUES(6,'r2',9.9982886767526180094e-01);
INSERT INTO "version_metrics" VALUES(1,'rmse',5.3320369024433136927e+02);
INSERT INTO "version_metrics" VALUES(2,'rmse',5.3320369024433136927e+02);
INSERT INTO "version_metrics" VALUES(3,'rmse',5.3320369024433136927e+02);
INSERT INTO "version_metrics" VALUES(4,'rmse',5.3320369024433136927e+02);
INSERT INTO "version_metrics" VALUES(5,'rmse',5.3320369024433136927e+02);
INSERT INTO "version_metrics" VALUES(6,'rmse',5.3320369024433136927e+02);
CREATE TABLE version_signatures (
	version_id INTEGER NOT NULL, 
	key_id TEXT NOT NULL, 
	document TEXT NOT NULL, 
	CONSTRAINT pk_version_signatures PRIMARY KEY (version_id, key_id), 
	CONSTRAINT fk_version_signatures_version_id_versions FOREIGN KEY(version_id) REFERENCES versions (id)
);
INSERT INTO "version_signatures" VALUES(1,'2bc70da5731b61f373f70d88d4d67c2a34261e7e66406aca2b529fdeed9b8b41','{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"f2774dc2c75a27731c85a050558594f40c1157502afb3e6702026e090cd14128"},"tlogEntries":[]},"dsseEnvelope":{"payload":"ewogICJfdHlwZSI6ICJodHRwczovL2luLXRvdG8uaW8vU3RhdGVtZW50L3YxIiwKICAic3ViamVjdCI6IFsKICAgIHsKICAgICAgIm5hbWUiOiAiMTY5Mzk1ZWQ1OTg5NDIwMTRiODIwMjQyNjdjMDc3ODJiNWUzZjcwNWY0Njk4MmQ2YjBmMmFjMWFlOGQ1YjFkMSIsCiAgICAgICJkaWdlc3QiOiB7CiAgICAgICAgInNoYTI1NiI6ICI4MGU2YjM2ZjBhYmFhMjRjZmJiNTQwMGNjZDYzN2IxODNlMTM1Yzc4OTk3ZTI0MmFiODMyZWFkYmZiNzM3YzIyIgogICAgICB9CiAgICB9CiAgXSwKICAicHJlZGljYXRlVHlwZSI6ICJodHRwczovL21vZGVsX3NpZ25pbmcvc2lnbmF0dXJlL3YxLjAiLAogICJwcmVkaWNhdGUiOiB7CiAgICAicmVzb3VyY2VzIjogWwogICAgICB7CiAgICAgICAgImRpZ2VzdCI6ICI2ZDM2ODI1ODdhNTRmZWU2NzQ3ZmFmNzk5MDgzNWFjY2RhODkxZTRmYWIyMjQ1NmVjNjkwYzAxMzhlMWY2NTJiIiwKICAgICAgICAiYWxnb3JpdGhtIjogInNoYTI1NiIsCiAgICAgICAgIm5hbWUiOiAiYXJjaGl0ZWN0dXJlLmpzb24iCiAgICAgIH0sCiAgICAgIHsKICAgICAgICAiZGlnZXN0IjogImIyMmE0NzcwODU5NjE5MjE0OGJiM2YzNjQyMzFjYTIxZTNhYWI4N2U3ZmI2NWY0OTg5N2ZiYmZmNGE1ZjA2MWIiLAogICAgICAgICJhbGdvcml0aG0iOiAic2hhMjU2IiwKICAgICAgICAibmFtZSI6ICJjYXJkLm1kIgogICAgICB9LAogICAgICB7CiAgICAgICAgImRpZ2VzdCI6ICJlNDM2MTk1ZjU4MTgyOWVkMDA5NGUwOTM2MzVjYmRkNjQ5YTViYjlkZDIwMzY5Mzc1NGYyM2RmMzZhNGUxMDhkIiwKICAgICAgICAiYWxnb3JpdGhtIjogInNoYTI1NiIsCiAgICAgICAgIm5hbWUiOiAiZXZhbHVhdGlvbi5qc29uIgogICAgICB9LAogICAgICB7CiAgICAgICAgImRpZ2VzdCI6ICIxZmY0NDQ0YzBlYWM0OWY0NDlmNjRlMmNlZjFlNmNiMGE2YjA1ZTYzMWFhNDgxNzdlMjgyNWZlYmIyNzBjZGUyIiwKICAgICAgICAiYWxnb3JpdGhtIjogInNoYTI1NiIsCiAgICAgICAgIm5hbWUiOiAibW9kZWwub25ueCIKICAgICAgfSwKICAgICAgewogICAgICAgICJkaWdlc3QiOiAiMWQwZmQ1ZjBlY2Q2N2RkNmVhOGE3MGViM2ZmNjU0YzRjOGM4ODM3ZDNlZDM4OWNkN2I0ZmZmZTE0ZWE5ZGQ0ZiIsCiAgICAgICAgImFsZ29yaXRobSI6ICJzaGEyNTYiLAogICAgICAgICJuYW1lIjogInByb2ZpbGUuanNvbiIKICAgICAgfSwKICAgICAgewogICAgICAgICJkaWdlc3QiOiAiOTI3ZjA5MGYwODFmZDc4MDFjNmJkM2UxNTM4M2M5MjA5OWFhNGQwMDJlN2EyNmUyMjlkYmNiMzMxZDE1NDlhMSIsCiAgICAgICAgImFsZ29yaXRobSI6ICJzaGEyNTYiLAogICAgICAgICJuYW1lIjogInNpZ25hdHVyZS5qc29uIgogICAgICB9LAogICAgICB7CiAgICAgICAgImRpZ2VzdCI6ICI0MjJmYzRiOWQzMTcwMzhiZDQ2NDQ1MzQ1ODA1MTlkOGJlMmE1ZDZmYWZkYmE3MjQyMDg5MmM0YjUzNDdhYTRlIiwKICAgICAgICAiYWxnb3JpdGhtIjogInNoYTI1NiIsCiAgICAgICAgIm5hbWUiOiAid2VpZ2h0cy5zYWZldGVuc29ycyIKICAgICAgfQogICAgXSwKICAgICJzZXJpYWxpemF0aW9uIjogewogICAgICAiaGFzaF90eXBlIjogInNoYTI1NiIsCiAgICAgICJhbGxvd19zeW1saW5rcyI6IGZhbHNlLAogICAgICAibWV0aG9kIjogImZpbGVzIgogICAgfQogIH0KfQ==","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"MEQCIEmeCxOCmJRTL5Ya5erT4Itb6d39dI0gAhopGDeXMOkcAiBn0z8lFf/+/ysYHSISMJJqGoq2mvh3GetGghYcYoz5KA==","keyid":""}]}}');
CREATE TABLE version_state (
	version_id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	approval_id INTEGER, 
	CONSTRAINT pk_version_state PRIMARY KEY (version_id), 
	CONSTRAINT fk_version_state_version_id_model_id_version_versions FOREIGN KEY(version_id, model_id, version) REFERENCES versions (id, model_id, version), 
	CONSTRAINT fk_version_state_approval_id_version_id_approvals FOREIGN KEY(approval_id, version_id) REFERENCES approvals (id, version_id), 
	CONSTRAINT uq_version_state_model_id_version_status UNIQUE (model_id, version, status), 
	CONSTRAINT ck_version_state_status CHECK (status IN ('candidate', 'approved', 'rejected', 'archived')), 
	CONSTRAINT ck_version_state_approved CHECK (status <> 'approved' OR approval_id IS NOT NULL)
);
INSERT INTO "version_state" VALUES(1,1,1,'approved',1);
INSERT INTO "version_state" VALUES(2,1,2,'approved',2);
INSERT INTO "version_state" VALUES(3,1,3,'rejected',NULL);
INSERT INTO "version_state" VALUES(4,1,4,'archived',NULL);
INSERT INTO "version_state" VALUES(5,1,5,'archived',NULL);
INSERT INTO "version_state" VALUES(6,2,1,'candidate',NULL);
CREATE TABLE version_tags (
	version_id INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	CONSTRAINT pk_version_tags PRIMARY KEY (version_id, "key"), 
	CONSTRAINT fk_version_tags_version_id_versions FOREIGN KEY(version_id) REFERENCES versions (id)
)
 WITHOUT ROWID

;
INSERT INTO "version_tags" VALUES(1,'team','Zürich');
INSERT INTO "version_tags" VALUES(2,'owner','ada');
INSERT INTO "version_tags" VALUES(2,'region','south');
INSERT INTO "version_tags" VALUES(6,'team','Zürich');
CREATE TABLE versions (
	id INTEGER NOT NULL, 
	uid TEXT NOT NULL, 
	model_id INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	dataset TEXT NOT NULL, 
	test_split TEXT NOT NULL, 
	signature JSON NOT NULL, 
	params_id INTEGER NOT NULL, 
	libraries JSON NOT NULL, 
	git_commit TEXT, 
	git_dirty BOOLEAN NOT NULL, 
	flow_run_id TEXT, 
	parent_id INTEGER, 
	request_id TEXT, 
	created_at BIGINT NOT NULL, 
	created_by TEXT NOT NULL, parent_uid TEXT, 
	CONSTRAINT pk_versions PRIMARY KEY (id), 
	CONSTRAINT fk_versions_model_id_models FOREIGN KEY(model_id) REFERENCES models (id), 
	CONSTRAINT fk_versions_params_id_params FOREIGN KEY(params_id) REFERENCES params (id), 
	CONSTRAINT fk_versions_parent_id_versions FOREIGN KEY(parent_id) REFERENCES versions (id), 
	CONSTRAINT uq_versions_uid UNIQUE (uid), 
	CONSTRAINT uq_versions_model_id_version UNIQUE (model_id, version), 
	CONSTRAINT uq_versions_id_model_id_version UNIQUE (id, model_id, version), 
	CONSTRAINT uq_versions_model_id_digest_dataset UNIQUE (model_id, digest, dataset), 
	CONSTRAINT uq_versions_model_id_request_id UNIQUE (model_id, request_id), 
	CONSTRAINT ck_versions_version CHECK (version > 0), 
	CONSTRAINT ck_versions_digest CHECK (length(digest) = 64)
);
INSERT INTO "versions" VALUES(1,'2e0a43b4e7ac4c43a2911d8cb01e7837',1,1,'169395ed598942014b82024267c07782b5e3f705f46982d6b0f2ac1ae8d5b1d1','dddddddddddddddddddddddddddddddd.dir','d2564a8ebd1b3af0db58eeafe10a672b5647f3c52bcf87ed0326f13065ff5e5b','{"schema_version":1,"task":"regression","columns":[{"name":"area","kind":"number","fill":113.0,"offset":0.0,"low":22.0,"high":198.0},{"name":"town","kind":"category","values":["Bern","Ulm"],"fill":"Ulm"}],"inputs":[{"name":"numbers","dtype":"float32","shape":[1]},{"name":"categories","dtype":"int64","shape":[1]}],"outputs":[{"name":"prediction","dtype":"float64","shape":[]}],"classes":[],"reading":{"encoding":"utf-8","delimiter":",","quote":"\"","decimal":".","thousands":null,"na_values":[],"true_values":[],"false_values":[],"date_format":null,"spelling":2}}',1,'{"onnxruntime":"1.31.1","torch":"2.13.0"}','cccccccccccccccccccccccccccccccccccccccc',0,'0e3f6f3e-8d5c-4a5e-9d0a-5f6f3c6f8a11',NULL,'night-1',1796029661906864,'ada',NULL);
INSERT INTO "versions" VALUES(2,'1f82536a4e934d5db2b6932974c14d20',1,2,'71758da6cb97080d4e34708038785493672152c0025f2e409b4aa12b92197f86','dddddddddddddddddddddddddddddddd.dir','d2564a8ebd1b3af0db58eeafe10a672b5647f3c52bcf87ed0326f13065ff5e5b','{"schema_version":1,"task":"regression","columns":[{"name":"area","kind":"number","fill":113.0,"offset":0.0,"low":22.0,"high":198.0},{"name":"town","kind":"category","values":["Bern","Ulm"],"fill":"Ulm"}],"inputs":[{"name":"numbers","dtype":"float32","shape":[1]},{"name":"categories","dtype":"int64","shape":[1]}],"outputs":[{"name":"prediction","dtype":"float64","shape":[]}],"classes":[],"reading":{"encoding":"utf-8","delimiter":",","quote":"\"","decimal":".","thousands":null,"na_values":[],"true_values":[],"false_values":[],"date_format":null,"spelling":2}}',2,'{"onnxruntime":"1.31.1","torch":"2.13.0"}','cccccccccccccccccccccccccccccccccccccccc',1,'0e3f6f3e-8d5c-4a5e-9d0a-5f6f3c6f8a11',1,NULL,1796029670676933,'ada','2e0a43b4e7ac4c43a2911d8cb01e7837');
INSERT INTO "versions" VALUES(3,'4dff39b261ed4f4a95ab36e61563c691',1,3,'ed7621bff1017339a8ab6a00f745fe9324e9bb81fd12227e60b8bb152259f013','dddddddddddddddddddddddddddddddd.dir','d2564a8ebd1b3af0db58eeafe10a672b5647f3c52bcf87ed0326f13065ff5e5b','{"schema_version":1,"task":"regression","columns":[{"name":"area","kind":"number","fill":113.0,"offset":0.0,"low":22.0,"high":198.0},{"name":"town","kind":"category","values":["Bern","Ulm"],"fill":"Ulm"}],"inputs":[{"name":"numbers","dtype":"float32","shape":[1]},{"name":"categories","dtype":"int64","shape":[1]}],"outputs":[{"name":"prediction","dtype":"float64","shape":[]}],"classes":[],"reading":{"encoding":"utf-8","delimiter":",","quote":"\"","decimal":".","thousands":null,"na_values":[],"true_values":[],"false_values":[],"date_format":null,"spelling":2}}',3,'{"onnxruntime":"1.31.1","torch":"2.13.0"}','cccccccccccccccccccccccccccccccccccccccc',0,'0e3f6f3e-8d5c-4a5e-9d0a-5f6f3c6f8a11',NULL,NULL,1796029672322260,'bo',NULL);
INSERT INTO "versions" VALUES(4,'8a3c3f6b1b7c46aebc8c58e5bee97ef2',1,4,'e820ddb994acd07c1a82ae81b50602c3c3b7847bebdc3608e6227890a366831a','dddddddddddddddddddddddddddddddd.dir','d2564a8ebd1b3af0db58eeafe10a672b5647f3c52bcf87ed0326f13065ff5e5b','{"schema_version":1,"task":"regression","columns":[{"name":"area","kind":"number","fill":113.0,"offset":0.0,"low":22.0,"high":198.0},{"name":"town","kind":"category","values":["Bern","Ulm"],"fill":"Ulm"}],"inputs":[{"name":"numbers","dtype":"float32","shape":[1]},{"name":"categories","dtype":"int64","shape":[1]}],"outputs":[{"name":"prediction","dtype":"float64","shape":[]}],"classes":[],"reading":{"encoding":"utf-8","delimiter":",","quote":"\"","decimal":".","thousands":null,"na_values":[],"true_values":[],"false_values":[],"date_format":null,"spelling":2}}',4,'{"onnxruntime":"1.31.1","torch":"2.13.0"}','cccccccccccccccccccccccccccccccccccccccc',0,'0e3f6f3e-8d5c-4a5e-9d0a-5f6f3c6f8a11',NULL,NULL,1796029673920395,'bo',NULL);
INSERT INTO "versions" VALUES(5,'346769ac31c44a8185242ab28d3a4d98',1,5,'d4974793de73ba1c9a3a8585c5cc43e42ab2d9894dcc94b62cde947e2d406d0a','dddddddddddddddddddddddddddddddd.dir','d2564a8ebd1b3af0db58eeafe10a672b5647f3c52bcf87ed0326f13065ff5e5b','{"schema_version":1,"task":"regression","columns":[{"name":"area","kind":"number","fill":113.0,"offset":0.0,"low":22.0,"high":198.0},{"name":"town","kind":"category","values":["Bern","Ulm"],"fill":"Ulm"}],"inputs":[{"name":"numbers","dtype":"float32","shape":[1]},{"name":"categories","dtype":"int64","shape":[1]}],"outputs":[{"name":"prediction","dtype":"float64","shape":[]}],"classes":[],"reading":{"encoding":"utf-8","delimiter":",","quote":"\"","decimal":".","thousands":null,"na_values":[],"true_values":[],"false_values":[],"date_format":null,"spelling":2}}',5,'{"onnxruntime":"1.31.1","torch":"2.13.0"}','cccccccccccccccccccccccccccccccccccccccc',0,'0e3f6f3e-8d5c-4a5e-9d0a-5f6f3c6f8a11',NULL,NULL,1796029674039889,'bo',NULL);
INSERT INTO "versions" VALUES(6,'5d8e2c2bf3074bf9a6c2772db47e6e54',2,1,'ce05f85eebf8ff0f87002b892913ffaac8ab054ec3750b23c94a0f22fc139e0d','dddddddddddddddddddddddddddddddd.dir','d2564a8ebd1b3af0db58eeafe10a672b5647f3c52bcf87ed0326f13065ff5e5b','{"schema_version":1,"task":"regression","columns":[{"name":"area","kind":"number","fill":113.0,"offset":0.0,"low":22.0,"high":198.0},{"name":"town","kind":"category","values":["Bern","Ulm"],"fill":"Ulm"}],"inputs":[{"name":"numbers","dtype":"float32","shape":[1]},{"name":"categories","dtype":"int64","shape":[1]}],"outputs":[{"name":"prediction","dtype":"float64","shape":[]}],"classes":[],"reading":{"encoding":"utf-8","delimiter":",","quote":"\"","decimal":".","thousands":null,"na_values":[],"true_values":[],"false_values":[],"date_format":null,"spelling":2}}',6,'{"onnxruntime":"1.31.1","torch":"2.13.0"}','cccccccccccccccccccccccccccccccccccccccc',0,'0e3f6f3e-8d5c-4a5e-9d0a-5f6f3c6f8a11',NULL,'import:5d8e2c2bf3074bf9a6c2772db47e6e54',1796029682552460,'di',NULL);
CREATE INDEX ix_versions_digest ON versions (digest);
CREATE INDEX ix_versions_git_commit ON versions (git_commit);
CREATE INDEX ix_versions_flow_run_id ON versions (flow_run_id);
CREATE INDEX ix_versions_parent_id ON versions (parent_id);
CREATE INDEX ix_versions_created_at ON versions (created_at);
CREATE INDEX ix_versions_params_id_id ON versions (params_id, id);
CREATE INDEX ix_version_artifacts_sha256 ON version_artifacts (sha256);
CREATE INDEX ix_version_metrics_key_value_version_id ON version_metrics ("key", value, version_id);
CREATE INDEX ix_evaluations_version_id ON evaluations (version_id);
CREATE INDEX ix_approvals_version_id ON approvals (version_id);
CREATE INDEX ix_version_state_status ON version_state (status);
CREATE INDEX ix_aliases_model_id_version_status ON aliases (model_id, version, status);
CREATE INDEX ix_events_model_id_id ON events (model_id, id);
CREATE INDEX ix_events_model_id_alias_id ON events (model_id, alias, id);
CREATE INDEX ix_jobs_output ON jobs (output);
CREATE UNIQUE INDEX ix_jobs_running ON jobs (output) WHERE state = 'running';
CREATE INDEX ix_param_values_start ON param_values ("key", substr(value, 1, 100), params_id);
CREATE INDEX ix_version_tags_start ON version_tags ("key", substr(value, 1, 100), version_id);
CREATE INDEX ix_events_model_id_version_id ON events (model_id, version, id);
CREATE INDEX ix_versions_created_by_id ON versions (created_by, id);
CREATE INDEX ix_versions_model_id_created_by_version ON versions (model_id, created_by, version);
CREATE INDEX ix_versions_dataset_id ON versions (dataset, id);
CREATE INDEX ix_version_data_md5_version_id ON version_data (md5, version_id);
CREATE INDEX ix_jobs_started_at_id ON jobs (started_at, id);
CREATE INDEX ix_jobs_version_id_started_at_id ON jobs (version_id, started_at, id);
CREATE INDEX ix_job_inputs_path_sha256_job_id ON job_inputs (path, sha256, job_id);
CREATE INDEX ix_versions_parent_uid_id ON versions (parent_uid, id);
CREATE TRIGGER blobs_refuses_replace BEFORE INSERT ON blobs WHEN EXISTS (SELECT 1 FROM blobs o WHERE o.rowid = NEW.rowid AND NOT (o.sha256 = NEW.sha256)) BEGIN SELECT RAISE(ABORT, 'blobs: it already has a row of this key'); END;
CREATE TRIGGER blobs_keeps_its_rowid BEFORE UPDATE ON blobs WHEN NEW.rowid <> OLD.rowid BEGIN SELECT RAISE(ABORT, 'blobs: rows keep their place'); END;
CREATE TRIGGER models_refuses_replace BEFORE INSERT ON models WHEN EXISTS (SELECT 1 FROM models o WHERE o.id = NEW.id) OR EXISTS (SELECT 1 FROM models o WHERE o.name = NEW.name) BEGIN SELECT RAISE(ABORT, 'models: it already has a row of this key'); END;
CREATE TRIGGER params_refuses_replace BEFORE INSERT ON params WHEN EXISTS (SELECT 1 FROM params o WHERE o.id = NEW.id) OR EXISTS (SELECT 1 FROM params o WHERE o.sha256 = NEW.sha256) BEGIN SELECT RAISE(ABORT, 'params: it already has a row of this key'); END;
CREATE TRIGGER registry_refuses_replace BEFORE INSERT ON registry WHEN EXISTS (SELECT 1 FROM registry o WHERE o.id = NEW.id) OR EXISTS (SELECT 1 FROM registry o WHERE o.rowid = NEW.rowid AND NOT (o.id = NEW.id)) BEGIN SELECT RAISE(ABORT, 'registry: it already has a row of this key'); END;
CREATE TRIGGER registry_keeps_its_rowid BEFORE UPDATE ON registry WHEN NEW.rowid <> OLD.rowid BEGIN SELECT RAISE(ABORT, 'registry: rows keep their place'); END;
CREATE TRIGGER fk_param_values_params_id_params_on_insert BEFORE INSERT ON param_values WHEN NOT EXISTS (SELECT 1 FROM params p WHERE p.id = NEW.params_id) BEGIN SELECT RAISE(ABORT, 'param_values: it refers to no row of params (foreign key fk_param_values_params_id_params)'); END;
CREATE TRIGGER param_values_refuses_replace BEFORE INSERT ON param_values WHEN EXISTS (SELECT 1 FROM param_values o WHERE o.params_id = NEW.params_id AND o.key = NEW.key) BEGIN SELECT RAISE(ABORT, 'param_values: it already has a row of this key'); END;
CREATE TRIGGER fk_protected_aliases_model_id_models_on_insert BEFORE INSERT ON protected_aliases WHEN NOT EXISTS (SELECT 1 FROM models p WHERE p.id = NEW.model_id) BEGIN SELECT RAISE(ABORT, 'protected_aliases: it refers to no row of models (foreign key fk_protected_aliases_model_id_models)'); END;
CREATE TRIGGER fk_protected_aliases_model_id_models_on_update BEFORE UPDATE ON protected_aliases WHEN NOT EXISTS (SELECT 1 FROM models p WHERE p.id = NEW.model_id) BEGIN SELECT RAISE(ABORT, 'protected_aliases: it refers to no row of models (foreign key fk_protected_aliases_model_id_models)'); END;
CREATE TRIGGER protected_aliases_refuses_replace BEFORE INSERT ON protected_aliases WHEN EXISTS (SELECT 1 FROM protected_aliases o WHERE o.model_id = NEW.model_id AND o.alias = NEW.alias) BEGIN SELECT RAISE(ABORT, 'protected_aliases: it already has a row of this key'); END;
CREATE TRIGGER fk_versions_model_id_models_on_insert BEFORE INSERT ON versions WHEN NOT EXISTS (SELECT 1 FROM models p WHERE p.id = NEW.model_id) BEGIN SELECT RAISE(ABORT, 'versions: it refers to no row of models (foreign key fk_versions_model_id_models)'); END;
CREATE TRIGGER fk_versions_params_id_params_on_insert BEFORE INSERT ON versions WHEN NOT EXISTS (SELECT 1 FROM params p WHERE p.id = NEW.params_id) BEGIN SELECT RAISE(ABORT, 'versions: it refers to no row of params (foreign key fk_versions_params_id_params)'); END;
CREATE TRIGGER fk_versions_parent_id_versions_on_insert BEFORE INSERT ON versions WHEN (NEW.parent_id IS NOT NULL) AND (NOT EXISTS (SELECT 1 FROM versions p WHERE p.id = NEW.parent_id)) BEGIN SELECT RAISE(ABORT, 'versions: it refers to no row of versions (foreign key fk_versions_parent_id_versions)'); END;
CREATE TRIGGER versions_refuses_replace BEFORE INSERT ON versions WHEN EXISTS (SELECT 1 FROM versions o WHERE o.id = NEW.id) OR EXISTS (SELECT 1 FROM versions o WHERE o.id = NEW.id AND o.model_id = NEW.model_id AND o.version = NEW.version) OR EXISTS (SELECT 1 FROM versions o WHERE o.model_id = NEW.model_id AND o.digest = NEW.digest AND o.dataset = NEW.dataset) OR EXISTS (SELECT 1 FROM versions o WHERE o.model_id = NEW.model_id AND o.request_id = NEW.request_id) OR EXISTS (SELECT 1 FROM versions o WHERE o.model_id = NEW.model_id AND o.version = NEW.version) OR EXISTS (SELECT 1 FROM versions o WHERE o.uid = NEW.uid) BEGIN SELECT RAISE(ABORT, 'versions: it already has a row of this key'); END;
CREATE TRIGGER fk_evaluations_version_id_versions_on_insert BEFORE INSERT ON evaluations WHEN NOT EXISTS (SELECT 1 FROM versions p WHERE p.id = NEW.version_id) BEGIN SELECT RAISE(ABORT, 'evaluations: it refers to no row of versions (foreign key fk_evaluations_version_id_versions)'); END;
CREATE TRIGGER evaluations_refuses_replace BEFORE INSERT ON evaluations WHEN EXISTS (SELECT 1 FROM evaluations o WHERE o.id = NEW.id) OR EXISTS (SELECT 1 FROM evaluations o WHERE o.id = NEW.id AND o.version_id = NEW.version_id AND o.passed = NEW.passed) BEGIN SELECT RAISE(ABORT, 'evaluations: it already has a row of this key'); END;
CREATE TRIGGER fk_events_model_id_models_on_insert BEFORE INSERT ON events WHEN NOT EXISTS (SELECT 1 FROM models p WHERE p.id = NEW.model_id) BEGIN SELECT RAISE(ABORT, 'events: it refers to no row of models (foreign key fk_events_model_id_models)'); END;
CREATE TRIGGER fk_events_model_id_version_versions_on_insert BEFORE INSERT ON events WHEN (NEW.version IS NOT NULL) AND (NOT EXISTS (SELECT 1 FROM versions p WHERE p.model_id = NEW.model_id AND p.version = NEW.version)) BEGIN SELECT RAISE(ABORT, 'events: it refers to no row of versions (foreign key fk_events_model_id_version_versions)'); END;
CREATE TRIGGER events_refuses_replace BEFORE INSERT ON events WHEN EXISTS (SELECT 1 FROM events o WHERE o.hash = NEW.hash) OR EXISTS (SELECT 1 FROM events o WHERE o.id = NEW.id) OR EXISTS (SELECT 1 FROM events o WHERE o.model_id = NEW.model_id AND o.prev_hash = NEW.prev_hash) BEGIN SELECT RAISE(ABORT, 'events: it already has a row of this key'); END;
CREATE TRIGGER fk_jobs_version_id_versions_on_insert BEFORE INSERT ON jobs WHEN NOT EXISTS (SELECT 1 FROM versions p WHERE p.id = NEW.version_id) BEGIN SELECT RAISE(ABORT, 'jobs: it refers to no row of versions (foreign key fk_jobs_version_id_versions)'); END;
CREATE TRIGGER fk_jobs_version_id_versions_on_update BEFORE UPDATE ON jobs WHEN NOT EXISTS (SELECT 1 FROM versions p WHERE p.id = NEW.version_id) BEGIN SELECT RAISE(ABORT, 'jobs: it refers to no row of versions (foreign key fk_jobs_version_id_versions)'); END;
CREATE TRIGGER jobs_refuses_replace BEFORE INSERT ON jobs WHEN EXISTS (SELECT 1 FROM jobs o WHERE o.id = NEW.id) OR EXISTS (SELECT 1 FROM jobs o WHERE o.output = NEW.output AND o.state = 'running' AND NEW.state = 'running') OR EXISTS (SELECT 1 FROM jobs o WHERE o.rowid = NEW.rowid AND NOT (o.id = NEW.id)) BEGIN SELECT RAISE(ABORT, 'jobs: it already has a row of this key'); END;
CREATE TRIGGER jobs_keeps_its_rowid BEFORE UPDATE ON jobs WHEN NEW.rowid <> OLD.rowid BEGIN SELECT RAISE(ABORT, 'jobs: rows keep their place'); END;
CREATE TRIGGER fk_version_artifacts_sha256_blobs_on_insert BEFORE INSERT ON version_artifacts WHEN NOT EXISTS (SELECT 1 FROM blobs p WHERE p.sha256 = NEW.sha256) BEGIN SELECT RAISE(ABORT, 'version_artifacts: it refers to no row of blobs (foreign key fk_version_artifacts_sha256_blobs)'); END;
CREATE TRIGGER fk_version_artifacts_sha256_blobs_on_delete BEFORE DELETE ON blobs WHEN EXISTS (SELECT 1 FROM version_artifacts c WHERE c.sha256 = OLD.sha256) BEGIN SELECT RAISE(ABORT, 'blobs: version_artifacts still refers to this row (foreign key fk_version_artifacts_sha256_blobs)'); END;
CREATE TRIGGER fk_version_artifacts_version_id_versions_on_insert BEFORE INSERT ON version_artifacts WHEN NOT EXISTS (SELECT 1 FROM versions p WHERE p.id = NEW.version_id) BEGIN SELECT RAISE(ABORT, 'version_artifacts: it refers to no row of versions (foreign key fk_version_artifacts_version_id_versions)'); END;
CREATE TRIGGER version_artifacts_refuses_replace BEFORE INSERT ON version_artifacts WHEN EXISTS (SELECT 1 FROM version_artifacts o WHERE o.version_id = NEW.version_id AND o.path = NEW.path) BEGIN SELECT RAISE(ABORT, 'version_artifacts: it already has a row of this key'); END;
CREATE TRIGGER fk_version_data_version_id_versions_on_insert BEFORE INSERT ON version_data WHEN NOT EXISTS (SELECT 1 FROM versions p WHERE p.id = NEW.version_id) BEGIN SELECT RAISE(ABORT, 'version_data: it refers to no row of versions (foreign key fk_version_data_version_id_versions)'); END;
CREATE TRIGGER version_data_refuses_replace BEFORE INSERT ON version_data WHEN EXISTS (SELECT 1 FROM version_data o WHERE o.version_id = NEW.version_id AND o.path = NEW.path) BEGIN SELECT RAISE(ABORT, 'version_data: it already has a row of this key'); END;
CREATE TRIGGER fk_version_metrics_version_id_versions_on_insert BEFORE INSERT ON version_metrics WHEN NOT EXISTS (SELECT 1 FROM versions p WHERE p.id = NEW.version_id) BEGIN SELECT RAISE(ABORT, 'version_metrics: it refers to no row of versions (foreign key fk_version_metrics_version_id_versions)'); END;
CREATE TRIGGER version_metrics_refuses_replace BEFORE INSERT ON version_metrics WHEN EXISTS (SELECT 1 FROM version_metrics o WHERE o.version_id = NEW.version_id AND o.key = NEW.key) BEGIN SELECT RAISE(ABORT, 'version_metrics: it already has a row of this key'); END;
CREATE TRIGGER fk_version_signatures_version_id_versions_on_insert BEFORE INSERT ON version_signatures WHEN NOT EXISTS (SELECT 1 FROM versions p WHERE p.id = NEW.version_id) BEGIN SELECT RAISE(ABORT, 'version_signatures: it refers to no row of versions (foreign key fk_version_signatures_version_id_versions)'); END;
CREATE TRIGGER version_signatures_refuses_replace BEFORE INSERT ON version_signatures WHEN EXISTS (SELECT 1 FROM version_signatures o WHERE o.rowid = NEW.rowid AND NOT (o.version_id = NEW.version_id AND o.key_id = NEW.key_id)) OR EXISTS (SELECT 1 FROM version_signatures o WHERE o.version_id = NEW.version_id AND o.key_id = NEW.key_id) BEGIN SELECT RAISE(ABORT, 'version_signatures: it already has a row of this key'); END;
CREATE TRIGGER fk_version_tags_version_id_versions_on_insert BEFORE INSERT ON version_tags WHEN NOT EXISTS (SELECT 1 FROM versions p WHERE p.id = NEW.version_id) BEGIN SELECT RAISE(ABORT, 'version_tags: it refers to no row of versions (foreign key fk_version_tags_version_id_versions)'); END;
CREATE TRIGGER fk_version_tags_version_id_versions_on_update BEFORE UPDATE ON version_tags WHEN NOT EXISTS (SELECT 1 FROM versions p WHERE p.id = NEW.version_id) BEGIN SELECT RAISE(ABORT, 'version_tags: it refers to no row of versions (foreign key fk_version_tags_version_id_versions)'); END;
CREATE TRIGGER fk_approvals_evaluation_id_version_id_passed_evaluations_on_insert BEFORE INSERT ON approvals WHEN NOT EXISTS (SELECT 1 FROM evaluations p WHERE p.id = NEW.evaluation_id AND p.version_id = NEW.version_id AND p.passed = NEW.passed) BEGIN SELECT RAISE(ABORT, 'approvals: it refers to no row of evaluations (foreign key fk_approvals_evaluation_id_version_id_passed_evaluations)'); END;
CREATE TRIGGER fk_approvals_version_id_versions_on_insert BEFORE INSERT ON approvals WHEN NOT EXISTS (SELECT 1 FROM versions p WHERE p.id = NEW.version_id) BEGIN SELECT RAISE(ABORT, 'approvals: it refers to no row of versions (foreign key fk_approvals_version_id_versions)'); END;
CREATE TRIGGER approvals_refuses_replace BEFORE INSERT ON approvals WHEN EXISTS (SELECT 1 FROM approvals o WHERE o.id = NEW.id) OR EXISTS (SELECT 1 FROM approvals o WHERE o.id = NEW.id AND o.version_id = NEW.version_id) BEGIN SELECT RAISE(ABORT, 'approvals: it already has a row of this key'); END;
CREATE TRIGGER fk_job_inputs_job_id_jobs_on_insert BEFORE INSERT ON job_inputs WHEN NOT EXISTS (SELECT 1 FROM jobs p WHERE p.id = NEW.job_id) BEGIN SELECT RAISE(ABORT, 'job_inputs: it refers to no row of jobs (foreign key fk_job_inputs_job_id_jobs)'); END;
CREATE TRIGGER job_inputs_refuses_replace BEFORE INSERT ON job_inputs WHEN EXISTS (SELECT 1 FROM job_inputs o WHERE o.id = NEW.id) BEGIN SELECT RAISE(ABORT, 'job_inputs: it already has a row of this key'); END;
CREATE TRIGGER fk_version_state_approval_id_version_id_approvals_on_insert BEFORE INSERT ON version_state WHEN (NEW.approval_id IS NOT NULL) AND (NOT EXISTS (SELECT 1 FROM approvals p WHERE p.id = NEW.approval_id AND p.version_id = NEW.version_id)) BEGIN SELECT RAISE(ABORT, 'version_state: it refers to no row of approvals (foreign key fk_version_state_approval_id_version_id_approvals)'); END;
CREATE TRIGGER fk_version_state_approval_id_version_id_approvals_on_update BEFORE UPDATE ON version_state WHEN (NEW.approval_id IS NOT NULL) AND (NOT EXISTS (SELECT 1 FROM approvals p WHERE p.id = NEW.approval_id AND p.version_id = NEW.version_id)) BEGIN SELECT RAISE(ABORT, 'version_state: it refers to no row of approvals (foreign key fk_version_state_approval_id_version_id_approvals)'); END;
CREATE TRIGGER fk_version_state_version_id_model_id_version_versions_on_insert BEFORE INSERT ON version_state WHEN NOT EXISTS (SELECT 1 FROM versions p WHERE p.id = NEW.version_id AND p.model_id = NEW.model_id AND p.version = NEW.version) BEGIN SELECT RAISE(ABORT, 'version_state: it refers to no row of versions (foreign key fk_version_state_version_id_model_id_version_versions)'); END;
CREATE TRIGGER fk_version_state_version_id_model_id_version_versions_on_update BEFORE UPDATE ON version_state WHEN NOT EXISTS (SELECT 1 FROM versions p WHERE p.id = NEW.version_id AND p.model_id = NEW.model_id AND p.version = NEW.version) BEGIN SELECT RAISE(ABORT, 'version_state: it refers to no row of versions (foreign key fk_version_state_version_id_model_id_version_versions)'); END;
CREATE TRIGGER version_state_refuses_replace BEFORE INSERT ON version_state WHEN EXISTS (SELECT 1 FROM version_state o WHERE o.model_id = NEW.model_id AND o.version = NEW.version AND o.status = NEW.status) OR EXISTS (SELECT 1 FROM version_state o WHERE o.version_id = NEW.version_id) BEGIN SELECT RAISE(ABORT, 'version_state: it already has a row of this key'); END;
CREATE TRIGGER fk_aliases_model_id_version_status_version_state_on_insert BEFORE INSERT ON aliases WHEN NOT EXISTS (SELECT 1 FROM version_state p WHERE p.model_id = NEW.model_id AND p.version = NEW.version AND p.status = NEW.status) BEGIN SELECT RAISE(ABORT, 'aliases: it refers to no row of version_state (foreign key fk_aliases_model_id_version_status_version_state)'); END;
CREATE TRIGGER fk_aliases_model_id_version_status_version_state_on_update BEFORE UPDATE ON aliases WHEN NOT EXISTS (SELECT 1 FROM version_state p WHERE p.model_id = NEW.model_id AND p.version = NEW.version AND p.status = NEW.status) BEGIN SELECT RAISE(ABORT, 'aliases: it refers to no row of version_state (foreign key fk_aliases_model_id_version_status_version_state)'); END;
CREATE TRIGGER aliases_refuses_replace BEFORE INSERT ON aliases WHEN EXISTS (SELECT 1 FROM aliases o WHERE o.model_id = NEW.model_id AND o.alias = NEW.alias) OR EXISTS (SELECT 1 FROM aliases o WHERE o.rowid = NEW.rowid AND NOT (o.model_id = NEW.model_id AND o.alias = NEW.alias)) BEGIN SELECT RAISE(ABORT, 'aliases: it already has a row of this key'); END;
CREATE TRIGGER aliases_keeps_its_rowid BEFORE UPDATE ON aliases WHEN NEW.rowid <> OLD.rowid BEGIN SELECT RAISE(ABORT, 'aliases: rows keep their place'); END;
CREATE TRIGGER events_are_a_chain BEFORE INSERT ON events WHEN length(NEW.hash) <> 64 OR NEW.hash = '0000000000000000000000000000000000000000000000000000000000000000' OR ltrim(NEW.hash, '0123456789abcdef') <> '' OR NEW.prev_hash IS NOT (SELECT m.last_event FROM models m WHERE m.id = NEW.model_id) BEGIN SELECT RAISE(ABORT, 'an event names the newest event of its model as its predecessor, and has a SHA-256 hash'); END;
CREATE TRIGGER events_are_of_a_known_kind BEFORE INSERT ON events WHEN NEW.kind NOT IN ('registered', 'imported', 'evaluated', 'approved', 'rejected', 'archived', 'unarchived', 'purged', 'promoted', 'rolled back', 'tagged', 'signed', 'unset', 'refused', 'policy', 'noted') OR (NEW.kind IN ('registered', 'imported', 'evaluated', 'approved', 'rejected', 'archived', 'unarchived', 'purged', 'promoted', 'rolled back', 'tagged', 'signed') AND NEW.version IS NULL) OR (NEW.kind IN ('unset', 'refused', 'policy') AND NEW.version IS NOT NULL) OR (NEW.kind IN ('promoted', 'rolled back', 'unset')) <> (NEW.alias IS NOT NULL) OR (NEW.kind NOT IN ('promoted', 'rolled back', 'unset') AND NEW.previous IS NOT NULL) BEGIN SELECT RAISE(ABORT, 'an event is of a known kind, and names a version and an alias where that kind does'); END;
CREATE TRIGGER events_record_a_new_version BEFORE INSERT ON events WHEN (NEW.kind IN ('registered', 'imported')) AND (NOT EXISTS (SELECT 1 FROM versions v JOIN version_state s ON s.version_id = v.id JOIN models m ON m.id = v.model_id WHERE v.model_id = NEW.model_id AND v.version = NEW.version AND m.last_version = v.version AND (NEW.kind = 'imported' OR EXISTS (SELECT 1 FROM evaluations x WHERE x.version_id = v.id AND x.passed))) OR EXISTS (SELECT 1 FROM events e WHERE e.model_id = NEW.model_id AND e.version = NEW.version AND e.kind IN ('registered', 'imported'))) BEGIN SELECT RAISE(ABORT, 'a registration records the newest version, once, with its status and its evaluation'); END;
CREATE TRIGGER events_record_an_approval BEFORE INSERT ON events WHEN (NEW.kind IN ('approved')) AND (NOT EXISTS (SELECT 1 FROM versions v JOIN version_state s ON s.version_id = v.id JOIN approvals a ON a.id = s.approval_id WHERE v.model_id = NEW.model_id AND v.version = NEW.version AND s.status = 'approved' AND a.approver = NEW.actor)) BEGIN SELECT RAISE(ABORT, 'this event needs an approval of its version, by the same actor'); END;
CREATE TRIGGER events_record_a_status BEFORE INSERT ON events WHEN (NEW.kind IN ('rejected', 'archived', 'unarchived', 'purged')) AND (NOT EXISTS (SELECT 1 FROM versions v JOIN version_state s ON s.version_id = v.id WHERE v.model_id = NEW.model_id AND v.version = NEW.version AND s.status = CASE NEW.kind WHEN 'unarchived' THEN 'candidate' WHEN 'purged' THEN 'archived' ELSE NEW.kind END)) BEGIN SELECT RAISE(ABORT, 'its version does not have the status that this event says'); END;
CREATE TRIGGER events_record_a_move BEFORE INSERT ON events WHEN (NEW.kind IN ('promoted', 'rolled back')) AND (NOT EXISTS (SELECT 1 FROM aliases a WHERE a.model_id = NEW.model_id AND a.alias = NEW.alias AND a.version = NEW.version)) BEGIN SELECT RAISE(ABORT, 'the alias does not point to the version that this event says'); END;
CREATE TRIGGER events_record_a_return BEFORE INSERT ON events WHEN (NEW.kind IN ('rolled back')) AND (NOT EXISTS (SELECT 1 FROM events e WHERE e.model_id = NEW.model_id AND e.alias = NEW.alias AND e.kind = 'promoted' AND e.version = NEW.version)) BEGIN SELECT RAISE(ABORT, 'an alias is rolled back to a version that held it before'); END;
CREATE TRIGGER events_record_an_unset_alias BEFORE INSERT ON events WHEN (NEW.kind IN ('unset')) AND (EXISTS (SELECT 1 FROM aliases a WHERE a.model_id = NEW.model_id AND a.alias = NEW.alias)) BEGIN SELECT RAISE(ABORT, 'the alias that this event says was unset is set'); END;
CREATE TRIGGER events_name_who_held_the_alias BEFORE INSERT ON events WHEN (NEW.kind IN ('promoted', 'rolled back', 'unset')) AND (EXISTS (SELECT 1 FROM events e WHERE e.model_id = NEW.model_id AND e.alias = NEW.alias AND e.kind IN ('promoted', 'rolled back', 'unset') ORDER BY e.id DESC LIMIT 1) AND NEW.previous IS NOT (SELECT CASE e.kind WHEN 'unset' THEN NULL ELSE e.version END FROM events e WHERE e.model_id = NEW.model_id AND e.alias = NEW.alias AND e.kind IN ('promoted', 'rolled back', 'unset') ORDER BY e.id DESC LIMIT 1)) BEGIN SELECT RAISE(ABORT, 'the version that held the alias before is another, by the history'); END;
CREATE TRIGGER events_record_a_signature BEFORE INSERT ON events WHEN (NEW.kind IN ('signed')) AND (NOT EXISTS (SELECT 1 FROM versions v JOIN version_state s ON s.version_id = v.id JOIN version_signatures g ON g.version_id = v.id WHERE v.model_id = NEW.model_id AND v.version = NEW.version AND g.key_id = json_extract(NEW.payload, '$.key'))) BEGIN SELECT RAISE(ABORT, 'its version does not have the signature that this event says'); END;
CREATE TRIGGER params_refuses_update BEFORE UPDATE ON params WHEN true BEGIN SELECT RAISE(ABORT, 'params is append-only: UPDATE refused'); END;
CREATE TRIGGER params_refuses_delete BEFORE DELETE ON params WHEN true BEGIN SELECT RAISE(ABORT, 'params is append-only: DELETE refused'); END;
CREATE TRIGGER param_values_refuses_update BEFORE UPDATE ON param_values WHEN true BEGIN SELECT RAISE(ABORT, 'param_values is append-only: UPDATE refused'); END;
CREATE TRIGGER param_values_refuses_delete BEFORE DELETE ON param_values WHEN true BEGIN SELECT RAISE(ABORT, 'param_values is append-only: DELETE refused'); END;
CREATE TRIGGER versions_refuses_update BEFORE UPDATE ON versions WHEN true BEGIN SELECT RAISE(ABORT, 'versions is append-only: UPDATE refused'); END;
CREATE TRIGGER versions_refuses_delete BEFORE DELETE ON versions WHEN true BEGIN SELECT RAISE(ABORT, 'versions is append-only: DELETE refused'); END;
CREATE TRIGGER version_artifacts_refuses_update BEFORE UPDATE ON version_artifacts WHEN true BEGIN SELECT RAISE(ABORT, 'version_artifacts is append-only: UPDATE refused'); END;
CREATE TRIGGER version_artifacts_refuses_delete BEFORE DELETE ON version_artifacts WHEN true BEGIN SELECT RAISE(ABORT, 'version_artifacts is append-only: DELETE refused'); END;
CREATE TRIGGER version_metrics_refuses_update BEFORE UPDATE ON version_metrics WHEN true BEGIN SELECT RAISE(ABORT, 'version_metrics is append-only: UPDATE refused'); END;
CREATE TRIGGER version_metrics_refuses_delete BEFORE DELETE ON version_metrics WHEN true BEGIN SELECT RAISE(ABORT, 'version_metrics is append-only: DELETE refused'); END;
CREATE TRIGGER version_data_refuses_update BEFORE UPDATE ON version_data WHEN true BEGIN SELECT RAISE(ABORT, 'version_data is append-only: UPDATE refused'); END;
CREATE TRIGGER version_data_refuses_delete BEFORE DELETE ON version_data WHEN true BEGIN SELECT RAISE(ABORT, 'version_data is append-only: DELETE refused'); END;
CREATE TRIGGER version_signatures_refuses_update BEFORE UPDATE ON version_signatures WHEN true BEGIN SELECT RAISE(ABORT, 'version_signatures is append-only: UPDATE refused'); END;
CREATE TRIGGER version_signatures_refuses_delete BEFORE DELETE ON version_signatures WHEN true BEGIN SELECT RAISE(ABORT, 'version_signatures is append-only: DELETE refused'); END;
CREATE TRIGGER evaluations_refuses_update BEFORE UPDATE ON evaluations WHEN true BEGIN SELECT RAISE(ABORT, 'evaluations is append-only: UPDATE refused'); END;
CREATE TRIGGER evaluations_refuses_delete BEFORE DELETE ON evaluations WHEN true BEGIN SELECT RAISE(ABORT, 'evaluations is append-only: DELETE refused'); END;
CREATE TRIGGER approvals_refuses_update BEFORE UPDATE ON approvals WHEN true BEGIN SELECT RAISE(ABORT, 'approvals is append-only: UPDATE refused'); END;
CREATE TRIGGER approvals_refuses_delete BEFORE DELETE ON approvals WHEN true BEGIN SELECT RAISE(ABORT, 'approvals is append-only: DELETE refused'); END;
CREATE TRIGGER events_refuses_update BEFORE UPDATE ON events WHEN true BEGIN SELECT RAISE(ABORT, 'events is append-only: UPDATE refused'); END;
CREATE TRIGGER events_refuses_delete BEFORE DELETE ON events WHEN true BEGIN SELECT RAISE(ABORT, 'events is append-only: DELETE refused'); END;
CREATE TRIGGER job_inputs_refuses_update BEFORE UPDATE ON job_inputs WHEN true BEGIN SELECT RAISE(ABORT, 'job_inputs is append-only: UPDATE refused'); END;
CREATE TRIGGER job_inputs_refuses_delete BEFORE DELETE ON job_inputs WHEN true BEGIN SELECT RAISE(ABORT, 'job_inputs is append-only: DELETE refused'); END;
CREATE TRIGGER models_refuses_delete BEFORE DELETE ON models WHEN true BEGIN SELECT RAISE(ABORT, 'models keeps every row: DELETE refused'); END;
CREATE TRIGGER version_state_refuses_delete BEFORE DELETE ON version_state WHEN true BEGIN SELECT RAISE(ABORT, 'version_state keeps every row: DELETE refused'); END;
CREATE TRIGGER jobs_refuses_delete BEFORE DELETE ON jobs WHEN true BEGIN SELECT RAISE(ABORT, 'jobs keeps every row: DELETE refused'); END;
CREATE TRIGGER registry_refuses_delete BEFORE DELETE ON registry WHEN true BEGIN SELECT RAISE(ABORT, 'registry keeps every row: DELETE refused'); END;
CREATE TRIGGER versions_are_gapless BEFORE INSERT ON versions WHEN NEW.version > 1 + (SELECT m.last_version FROM models m WHERE m.id = NEW.model_id) BEGIN SELECT RAISE(ABORT, 'versions are numbered without a gap: the number before this one does not exist'); END;
CREATE TRIGGER models_begin_empty BEFORE INSERT ON models WHEN NEW.last_version <> 0 OR NEW.last_event <> '0000000000000000000000000000000000000000000000000000000000000000' BEGIN SELECT RAISE(ABORT, 'a model begins without versions and events; those move its counter and its head'); END;
CREATE TRIGGER models_keep_name_and_count BEFORE UPDATE ON models WHEN NEW.id <> OLD.id OR NEW.name <> OLD.name OR NEW.created_at <> OLD.created_at OR (NEW.last_version <> OLD.last_version AND (NEW.last_version <> OLD.last_version + 1 OR NOT EXISTS (SELECT 1 FROM versions v WHERE v.model_id = NEW.id AND v.version = NEW.last_version))) BEGIN SELECT RAISE(ABORT, 'a model keeps its name, and its counter goes up by one with the version of that number'); END;
CREATE TRIGGER models_keep_their_head BEFORE UPDATE ON models WHEN (NEW.last_event <> OLD.last_event) AND (NOT EXISTS (SELECT 1 FROM events e WHERE e.hash = NEW.last_event AND e.model_id = NEW.id AND e.prev_hash = OLD.last_event)) BEGIN SELECT RAISE(ABORT, 'the head of a history is its newest event, and moves with it alone'); END;
CREATE TRIGGER version_artifacts_stay_as_registered BEFORE INSERT ON version_artifacts WHEN EXISTS (SELECT 1 FROM versions v JOIN events e ON e.model_id = v.model_id AND e.version = v.version WHERE v.id = NEW.version_id AND e.kind IN ('registered', 'imported')) BEGIN SELECT RAISE(ABORT, 'a version keeps what it was registered with: nothing is added to it later'); END;
CREATE TRIGGER version_metrics_stay_as_registered BEFORE INSERT ON version_metrics WHEN EXISTS (SELECT 1 FROM versions v JOIN events e ON e.model_id = v.model_id AND e.version = v.version WHERE v.id = NEW.version_id AND e.kind IN ('registered', 'imported')) BEGIN SELECT RAISE(ABORT, 'a version keeps what it was registered with: nothing is added to it later'); END;
CREATE TRIGGER version_data_stay_as_registered BEFORE INSERT ON version_data WHEN EXISTS (SELECT 1 FROM versions v JOIN events e ON e.model_id = v.model_id AND e.version = v.version WHERE v.id = NEW.version_id AND e.kind IN ('registered', 'imported')) BEGIN SELECT RAISE(ABORT, 'a version keeps what it was registered with: nothing is added to it later'); END;
CREATE TRIGGER param_values_stay_as_stored BEFORE INSERT ON param_values WHEN EXISTS (SELECT 1 FROM versions v WHERE v.params_id = NEW.params_id) BEGIN SELECT RAISE(ABORT, 'parameters that a version was made with stay as they are'); END;
CREATE TRIGGER version_tags_follow_their_event_on_insert BEFORE INSERT ON version_tags WHEN (NEW.value IS NOT NULL) AND (EXISTS (SELECT 1 FROM versions v JOIN events e ON e.model_id = v.model_id AND e.version = v.version WHERE v.id = NEW.version_id AND e.kind IN ('registered', 'imported')) AND NOT EXISTS (SELECT 1 FROM versions v JOIN models m ON m.id = v.model_id JOIN events e ON e.hash = m.last_event WHERE v.id = NEW.version_id AND e.version = v.version AND e.kind = 'tagged' AND json_extract(e.payload, '$.key') = NEW.key AND json_extract(e.payload, '$.value') IS NEW.value)) BEGIN SELECT RAISE(ABORT, 'a tag changes right after the event that records it'); END;
CREATE TRIGGER version_tags_follow_their_event_on_update BEFORE UPDATE ON version_tags WHEN (NEW.value IS NOT NULL) AND (EXISTS (SELECT 1 FROM versions v JOIN events e ON e.model_id = v.model_id AND e.version = v.version WHERE v.id = NEW.version_id AND e.kind IN ('registered', 'imported')) AND NOT EXISTS (SELECT 1 FROM versions v JOIN models m ON m.id = v.model_id JOIN events e ON e.hash = m.last_event WHERE v.id = NEW.version_id AND e.version = v.version AND e.kind = 'tagged' AND json_extract(e.payload, '$.key') = NEW.key AND json_extract(e.payload, '$.value') IS NEW.value)) BEGIN SELECT RAISE(ABORT, 'a tag changes right after the event that records it'); END;
CREATE TRIGGER version_tags_follow_their_event_on_delete BEFORE DELETE ON version_tags WHEN NOT EXISTS (SELECT 1 FROM versions v JOIN models m ON m.id = v.model_id JOIN events e ON e.hash = m.last_event WHERE v.id = OLD.version_id AND e.version = v.version AND e.kind = 'tagged' AND json_extract(e.payload, '$.key') = OLD.key AND json_extract(e.payload, '$.value') IS NULL) BEGIN SELECT RAISE(ABORT, 'a tag changes right after the event that records it'); END;
CREATE TRIGGER evaluations_follow_their_event BEFORE INSERT ON evaluations WHEN (SELECT count(*) FROM evaluations x WHERE x.version_id = NEW.version_id) >= (CASE WHEN EXISTS (SELECT 1 FROM versions v JOIN events e ON e.model_id = v.model_id AND e.version = v.version WHERE v.id = NEW.version_id AND e.kind IN ('registered', 'imported')) THEN (SELECT count(*) FROM versions v JOIN events e ON e.model_id = v.model_id AND e.version = v.version WHERE v.id = NEW.version_id AND (e.kind IN ('registered', 'evaluated') OR (e.kind = 'imported' AND json_extract(e.payload, '$.evaluation') IS NOT NULL))) ELSE 1 END) BEGIN SELECT RAISE(ABORT, 'an evaluation is added right after the event that records it'); END;
CREATE TRIGGER version_tags_keeps_its_key BEFORE UPDATE ON version_tags WHEN NEW.version_id IS NOT OLD.version_id OR NEW.key IS NOT OLD.key BEGIN SELECT RAISE(ABORT, 'a tag stays with its version and keeps its key'); END;
CREATE TRIGGER version_state_keeps_its_version BEFORE UPDATE ON version_state WHEN NEW.version_id IS NOT OLD.version_id OR NEW.model_id IS NOT OLD.model_id OR NEW.version IS NOT OLD.version BEGIN SELECT RAISE(ABORT, 'a status stays with its version'); END;
CREATE TRIGGER aliases_keeps_its_key BEFORE UPDATE ON aliases WHEN NEW.model_id IS NOT OLD.model_id OR NEW.alias IS NOT OLD.alias BEGIN SELECT RAISE(ABORT, 'an alias keeps its name and its model; unset it and set another'); END;
CREATE TRIGGER protected_aliases_refuses_update BEFORE UPDATE ON protected_aliases WHEN true BEGIN SELECT RAISE(ABORT, 'a protected alias is added or removed, never changed'); END;
CREATE TRIGGER version_state_begins_as_candidate BEFORE INSERT ON version_state WHEN NEW.status <> 'candidate' OR NEW.approval_id IS NOT NULL BEGIN SELECT RAISE(ABORT, 'a version begins as a candidate; approvals come later'); END;
CREATE TRIGGER blobs_keeps_its_key BEFORE UPDATE ON blobs WHEN NEW.sha256 IS NOT OLD.sha256 OR NEW.size IS NOT OLD.size BEGIN SELECT RAISE(ABORT, 'a file keeps its content: other bytes are another'); END;
CREATE TRIGGER blobs_begin_stored BEFORE INSERT ON blobs WHEN NEW.purged_at IS NOT NULL OR EXISTS (SELECT 1 FROM blobs b WHERE b.sha256 = NEW.sha256 AND b.size <> NEW.size) OR ltrim(NEW.sha256, '0123456789abcdef') <> '' OR NEW.touched < 0 BEGIN SELECT RAISE(ABORT, 'a file is announced by its SHA-256, with its size and without having been purged'); END;
CREATE TRIGGER blobs_are_purged_when_nothing_needs_them BEFORE UPDATE ON blobs WHEN (NEW.purged_at IS NOT NULL AND OLD.purged_at IS NULL) AND (EXISTS (SELECT 1 FROM version_artifacts a JOIN version_state s ON s.version_id = a.version_id WHERE a.sha256 = NEW.sha256 AND s.status <> 'archived') OR NOT EXISTS (SELECT 1 FROM version_artifacts a WHERE a.sha256 = NEW.sha256)) BEGIN SELECT RAISE(ABORT, 'only a file that archived versions alone refer to can be purged'); END;
CREATE TRIGGER registry_is_one BEFORE INSERT ON registry WHEN EXISTS (SELECT 1 FROM registry) BEGIN SELECT RAISE(ABORT, 'a registry has one id, and has it already'); END;
CREATE TRIGGER registry_keeps_its_id BEFORE UPDATE ON registry WHEN NEW.id IS NOT OLD.id OR NEW.created_at IS NOT OLD.created_at BEGIN SELECT RAISE(ABORT, 'a registry keeps its id for ever'); END;
CREATE TRIGGER registry_keeps_its_store BEFORE UPDATE ON registry WHEN OLD.store IS NOT NULL AND NEW.store IS NOT OLD.store BEGIN SELECT RAISE(ABORT, 'a registry keeps the store of its first publication; restore a backup to move it'); END;
CREATE TRIGGER versions_have_a_living_parent BEFORE INSERT ON versions WHEN EXISTS (SELECT 1 FROM version_state s WHERE s.version_id = NEW.parent_id AND s.status = 'archived') BEGIN SELECT RAISE(ABORT, 'the version to start from is archived; unarchive it first'); END;
CREATE TRIGGER versions_name_their_parent_by_its_uid BEFORE INSERT ON versions WHEN EXISTS (SELECT 1 FROM versions p WHERE p.id = NEW.parent_id AND (NEW.parent_uid IS NULL OR p.uid <> NEW.parent_uid)) BEGIN SELECT RAISE(ABORT, 'a version names the version that it started from by its uid, too'); END;
CREATE TRIGGER jobs_use_a_living_version BEFORE INSERT ON jobs WHEN EXISTS (SELECT 1 FROM version_state s WHERE s.version_id = NEW.version_id AND s.status = 'archived') BEGIN SELECT RAISE(ABORT, 'an archived version predicts nothing; unarchive it first'); END;
CREATE TRIGGER jobs_keep_their_version BEFORE UPDATE ON jobs WHEN NEW.id IS NOT OLD.id OR NEW.version_id IS NOT OLD.version_id OR NEW.reference IS NOT OLD.reference OR NEW.alias IS NOT OLD.alias OR NEW.alias_revision IS NOT OLD.alias_revision OR NEW.input_sha256 IS NOT OLD.input_sha256 OR NEW.output IS NOT OLD.output OR NEW.flow_run_id IS NOT OLD.flow_run_id OR NEW.started_at IS NOT OLD.started_at BEGIN SELECT RAISE(ABORT, 'a batch job stays with its version, its input and its output'); END;
CREATE TRIGGER jobs_end_once BEFORE UPDATE ON jobs WHEN OLD.state <> 'running' BEGIN SELECT RAISE(ABORT, 'a batch job that has ended stays as it ended'); END;
CREATE TRIGGER job_inputs_come_before_the_end BEFORE INSERT ON job_inputs WHEN NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = NEW.job_id AND j.state = 'running') BEGIN SELECT RAISE(ABORT, 'the input files of a batch job are recorded right before it completes, not later'); END;
CREATE TRIGGER version_state_keeps_what_is_used BEFORE UPDATE ON version_state WHEN NEW.status = 'archived' AND OLD.status <> 'archived' AND (EXISTS (SELECT 1 FROM jobs j WHERE j.version_id = NEW.version_id AND j.state IN ('running', 'completed')) OR EXISTS (SELECT 1 FROM versions v WHERE v.parent_id = NEW.version_id) OR EXISTS (SELECT 1 FROM versions v JOIN versions p ON p.uid = v.parent_uid WHERE p.id = NEW.version_id)) BEGIN SELECT RAISE(ABORT, 'a version that a batch job or another version was made with cannot be archived'); END;
CREATE TRIGGER version_state_keeps_purged_versions_archived BEFORE UPDATE ON version_state WHEN (OLD.status = 'archived' AND NEW.status <> 'archived') AND (EXISTS (SELECT 1 FROM version_artifacts a JOIN blobs b ON b.sha256 = a.sha256 WHERE a.version_id = NEW.version_id AND b.purged_at IS NOT NULL)) BEGIN SELECT RAISE(ABORT, 'the files of this version were purged; register the same files again first'); END;
CREATE TRIGGER approvals_need_a_passed_evaluation BEFORE INSERT ON approvals WHEN (NOT NEW.passed) AND (true) BEGIN SELECT RAISE(ABORT, 'only a version with a passed evaluation can be approved (ck_approvals_passed)'); END;
CREATE TRIGGER approvals_need_the_newest_evaluation BEFORE INSERT ON approvals WHEN EXISTS (SELECT 1 FROM evaluations e WHERE e.id = NEW.evaluation_id AND e.version_id = NEW.version_id AND e.passed) AND (EXISTS (SELECT 1 FROM evaluations e WHERE e.version_id = NEW.version_id AND e.id > NEW.evaluation_id) OR NOT EXISTS (SELECT 1 FROM versions v JOIN events e ON e.model_id = v.model_id AND e.version = v.version WHERE v.id = NEW.version_id AND e.kind IN ('registered', 'imported'))) BEGIN SELECT RAISE(ABORT, 'an approval needs the newest evaluation of a version that the history knows'); END;
CREATE TRIGGER aliases_hold_no_archived_version_on_insert BEFORE INSERT ON aliases WHEN (NEW.status = 'archived') AND (true) BEGIN SELECT RAISE(ABORT, 'a version that an alias points to cannot be archived; move or unset the alias first (ck_aliases_archived)'); END;
CREATE TRIGGER aliases_make_only_approved_champion_on_insert BEFORE INSERT ON aliases WHEN (NEW.alias = 'champion' AND NEW.status IN ('candidate', 'rejected')) AND (true) BEGIN SELECT RAISE(ABORT, 'the champion must be an approved version (ck_aliases_champion)'); END;
CREATE TRIGGER aliases_under_protection_need_approval_on_insert BEFORE INSERT ON aliases WHEN (NEW.alias <> 'champion' AND NEW.status <> 'approved') AND ((NEW.alias = 'champion' OR EXISTS (SELECT 1 FROM protected_aliases p WHERE p.model_id = NEW.model_id AND p.alias = NEW.alias))) BEGIN SELECT RAISE(ABORT, 'the policy of this model protects that alias: as the champion, it must be an approved version'); END;
CREATE TRIGGER aliases_need_other_eyes_on_insert BEFORE INSERT ON aliases WHEN (NEW.alias = 'champion' OR EXISTS (SELECT 1 FROM protected_aliases p WHERE p.model_id = NEW.model_id AND p.alias = NEW.alias)) AND EXISTS (SELECT 1 FROM models m WHERE m.id = NEW.model_id AND m.four_eyes) AND NOT EXISTS (SELECT 1 FROM versions v JOIN version_state s ON s.version_id = v.id JOIN approvals a ON a.id = s.approval_id WHERE v.model_id = NEW.model_id AND v.version = NEW.version AND lower(trim(a.approver)) <> lower(trim(v.created_by))) BEGIN SELECT RAISE(ABORT, 'the champion of this model, and any protected alias, needs an approval by somebody other than its trainer'); END;
CREATE TRIGGER aliases_hold_no_archived_version_on_update BEFORE UPDATE ON aliases WHEN (NEW.status = 'archived') AND (true) BEGIN SELECT RAISE(ABORT, 'a version that an alias points to cannot be archived; move or unset the alias first (ck_aliases_archived)'); END;
CREATE TRIGGER aliases_make_only_approved_champion_on_update BEFORE UPDATE ON aliases WHEN (NEW.alias = 'champion' AND NEW.status IN ('candidate', 'rejected')) AND (true) BEGIN SELECT RAISE(ABORT, 'the champion must be an approved version (ck_aliases_champion)'); END;
CREATE TRIGGER aliases_under_protection_need_approval_on_update BEFORE UPDATE ON aliases WHEN (NEW.alias <> 'champion' AND NEW.status <> 'approved') AND ((NEW.alias = 'champion' OR EXISTS (SELECT 1 FROM protected_aliases p WHERE p.model_id = NEW.model_id AND p.alias = NEW.alias))) BEGIN SELECT RAISE(ABORT, 'the policy of this model protects that alias: as the champion, it must be an approved version'); END;
CREATE TRIGGER aliases_need_other_eyes_on_update BEFORE UPDATE ON aliases WHEN (NEW.alias = 'champion' OR EXISTS (SELECT 1 FROM protected_aliases p WHERE p.model_id = NEW.model_id AND p.alias = NEW.alias)) AND EXISTS (SELECT 1 FROM models m WHERE m.id = NEW.model_id AND m.four_eyes) AND NOT EXISTS (SELECT 1 FROM versions v JOIN version_state s ON s.version_id = v.id JOIN approvals a ON a.id = s.approval_id WHERE v.model_id = NEW.model_id AND v.version = NEW.version AND lower(trim(a.approver)) <> lower(trim(v.created_by))) BEGIN SELECT RAISE(ABORT, 'the champion of this model, and any protected alias, needs an approval by somebody other than its trainer'); END;
CREATE TRIGGER version_state_keeps_other_eyes BEFORE UPDATE ON version_state WHEN (NEW.status = 'approved' AND NEW.approval_id IS NOT OLD.approval_id) AND (EXISTS (SELECT 1 FROM aliases l WHERE l.model_id = NEW.model_id AND l.version = NEW.version AND (l.alias = 'champion' OR EXISTS (SELECT 1 FROM protected_aliases p WHERE p.model_id = l.model_id AND p.alias = l.alias))) AND EXISTS (SELECT 1 FROM models m WHERE m.id = NEW.model_id AND m.four_eyes) AND EXISTS (SELECT 1 FROM approvals a JOIN versions v ON v.id = a.version_id WHERE a.id = NEW.approval_id AND lower(trim(a.approver)) = lower(trim(v.created_by)))) BEGIN SELECT RAISE(ABORT, 'the version that holds a protected alias keeps an approval by somebody other than its trainer'); END;
CREATE TRIGGER protected_aliases_are_approved BEFORE INSERT ON protected_aliases WHEN NEW.alias IN ('champion', 'challenger') OR EXISTS (SELECT 1 FROM aliases a WHERE a.model_id = NEW.model_id AND a.alias = NEW.alias AND a.status <> 'approved') BEGIN SELECT RAISE(ABORT, 'an alias that points to a version that is not approved cannot become protected, nor can the challenger; the champion always is'); END;
CREATE TRIGGER blobs_stay_readable_on_insert BEFORE INSERT ON blobs WHEN NEW.touched NOT BETWEEN 0 AND 253402300799999999 OR NEW.purged_at NOT BETWEEN 0 AND 253402300799999999 BEGIN SELECT RAISE(ABORT, 'blobs: a time lies between 1970 and the end of 9999, a number is finite, and a document is a JSON object of at most 200 levels'); END;
CREATE TRIGGER blobs_stay_readable_on_update BEFORE UPDATE ON blobs WHEN NEW.touched NOT BETWEEN 0 AND 253402300799999999 OR NEW.purged_at NOT BETWEEN 0 AND 253402300799999999 BEGIN SELECT RAISE(ABORT, 'blobs: a time lies between 1970 and the end of 9999, a number is finite, and a document is a JSON object of at most 200 levels'); END;
CREATE TRIGGER models_stay_readable_on_insert BEFORE INSERT ON models WHEN NEW.created_at NOT BETWEEN 0 AND 253402300799999999 BEGIN SELECT RAISE(ABORT, 'models: a time lies between 1970 and the end of 9999, a number is finite, and a document is a JSON object of at most 200 levels'); END;
CREATE TRIGGER models_stay_readable_on_update BEFORE UPDATE ON models WHEN NEW.created_at NOT BETWEEN 0 AND 253402300799999999 BEGIN SELECT RAISE(ABORT, 'models: a time lies between 1970 and the end of 9999, a number is finite, and a document is a JSON object of at most 200 levels'); END;
CREATE TRIGGER params_stay_readable_on_insert BEFORE INSERT ON params WHEN (CASE WHEN json_valid(NEW.document) THEN json_type(NEW.document) <> 'object' ELSE 1 END) BEGIN SELECT RAISE(ABORT, 'params: a time lies between 1970 and the end of 9999, a number is finite, and a document is a JSON object of at most 200 levels'); END;
CREATE TRIGGER registry_stay_readable_on_insert BEFORE INSERT ON registry WHEN NEW.created_at NOT BETWEEN 0 AND 253402300799999999 BEGIN SELECT RAISE(ABORT, 'registry: a time lies between 1970 and the end of 9999, a number is finite, and a document is a JSON object of at most 200 levels'); END;
CREATE TRIGGER registry_stay_readable_on_update BEFORE UPDATE ON registry WHEN NEW.created_at NOT BETWEEN 0 AND 253402300799999999 BEGIN SELECT RAISE(ABORT, 'registry: a time lies between 1970 and the end of 9999, a number is finite, and a document is a JSON object of at most 200 levels'); END;
CREATE TRIGGER versions_stay_readable_on_insert BEFORE INSERT ON versions WHEN (CASE WHEN json_valid(NEW.signature) THEN json_type(NEW.signature) <> 'object' ELSE 1 END) OR (CASE WHEN json_valid(NEW.libraries) THEN json_type(NEW.libraries) <> 'object' ELSE 1 END) OR NEW.created_at NOT BETWEEN 0 AND 253402300799999999 BEGIN SELECT RAISE(ABORT, 'versions: a time lies between 1970 and the end of 9999, a number is finite, and a document is a JSON object of at most 200 levels'); END;
CREATE TRIGGER evaluations_stay_readable_on_insert BEFORE INSERT ON evaluations WHEN (CASE WHEN json_valid(NEW.report) THEN json_type(NEW.report) <> 'object' ELSE 1 END) OR NEW.at NOT BETWEEN 0 AND 253402300799999999 BEGIN SELECT RAISE(ABORT, 'evaluations: a time lies between 1970 and the end of 9999, a number is finite, and a document is a JSON object of at most 200 levels'); END;
CREATE TRIGGER events_stay_readable_on_insert BEFORE INSERT ON events WHEN NEW.at NOT BETWEEN 0 AND 253402300799999999 OR (CASE WHEN json_valid(NEW.payload) THEN json_type(NEW.payload) <> 'object' ELSE 1 END) BEGIN SELECT RAISE(ABORT, 'events: a time lies between 1970 and the end of 9999, a number is finite, and a document is a JSON object of at most 200 levels'); END;
CREATE TRIGGER jobs_stay_readable_on_insert BEFORE INSERT ON jobs WHEN NEW.started_at NOT BETWEEN 0 AND 253402300799999999 OR NEW.finished_at NOT BETWEEN 0 AND 253402300799999999 OR (NEW.substituted IS NOT NULL AND CASE WHEN json_valid(NEW.substituted) THEN json_type(NEW.substituted) <> 'object' ELSE 1 END) OR (NEW.drift IS NOT NULL AND CASE WHEN json_valid(NEW.drift) THEN json_type(NEW.drift) <> 'object' ELSE 1 END) BEGIN SELECT RAISE(ABORT, 'jobs: a time lies between 1970 and the end of 9999, a number is finite, and a document is a JSON object of at most 200 levels'); END;
CREATE TRIGGER jobs_stay_readable_on_update BEFORE UPDATE ON jobs WHEN NEW.started_at NOT BETWEEN 0 AND 253402300799999999 OR NEW.finished_at NOT BETWEEN 0 AND 253402300799999999 OR (NEW.substituted IS NOT NULL AND CASE WHEN json_valid(NEW.substituted) THEN json_type(NEW.substituted) <> 'object' ELSE 1 END) OR (NEW.drift IS NOT NULL AND CASE WHEN json_valid(NEW.drift) THEN json_type(NEW.drift) <> 'object' ELSE 1 END) BEGIN SELECT RAISE(ABORT, 'jobs: a time lies between 1970 and the end of 9999, a number is finite, and a document is a JSON object of at most 200 levels'); END;
CREATE TRIGGER version_metrics_stay_readable_on_insert BEFORE INSERT ON version_metrics WHEN NEW.value NOT BETWEEN -1.7976931348623157e308 AND 1.7976931348623157e308 BEGIN SELECT RAISE(ABORT, 'version_metrics: a time lies between 1970 and the end of 9999, a number is finite, and a document is a JSON object of at most 200 levels'); END;
CREATE TRIGGER approvals_stay_readable_on_insert BEFORE INSERT ON approvals WHEN NEW.at NOT BETWEEN 0 AND 253402300799999999 BEGIN SELECT RAISE(ABORT, 'approvals: a time lies between 1970 and the end of 9999, a number is finite, and a document is a JSON object of at most 200 levels'); END;
CREATE TRIGGER blobs_stay_typed_on_insert BEFORE INSERT ON blobs WHEN typeof(NEW.sha256) NOT IN ('text', 'null') OR typeof(NEW.size) NOT IN ('integer', 'null') OR typeof(NEW.touched) NOT IN ('integer', 'null') OR typeof(NEW.purged_at) NOT IN ('integer', 'null') BEGIN SELECT RAISE(ABORT, 'blobs: a value is not of the type of its column'); END;
CREATE TRIGGER blobs_stay_typed_on_update BEFORE UPDATE ON blobs WHEN typeof(NEW.sha256) NOT IN ('text', 'null') OR typeof(NEW.size) NOT IN ('integer', 'null') OR typeof(NEW.touched) NOT IN ('integer', 'null') OR typeof(NEW.purged_at) NOT IN ('integer', 'null') BEGIN SELECT RAISE(ABORT, 'blobs: a value is not of the type of its column'); END;
CREATE TRIGGER models_stay_typed_on_insert BEFORE INSERT ON models WHEN typeof(NEW.id) NOT IN ('integer', 'null') OR abs(NEW.id) > 2147483647 OR typeof(NEW.name) NOT IN ('text', 'null') OR typeof(NEW.last_version) NOT IN ('integer', 'null') OR abs(NEW.last_version) > 2147483647 OR typeof(NEW.last_event) NOT IN ('text', 'null') OR typeof(NEW.created_at) NOT IN ('integer', 'null') OR typeof(NEW.four_eyes) NOT IN ('integer', 'null') OR NEW.four_eyes NOT IN (0, 1) OR typeof(NEW.keep_last) NOT IN ('integer', 'null') OR abs(NEW.keep_last) > 2147483647 OR typeof(NEW.keep_days) NOT IN ('integer', 'null') OR abs(NEW.keep_days) > 2147483647 OR typeof(NEW.keep_holders) NOT IN ('integer', 'null') OR abs(NEW.keep_holders) > 2147483647 BEGIN SELECT RAISE(ABORT, 'models: a value is not of the type of its column'); END;
CREATE TRIGGER models_stay_typed_on_update BEFORE UPDATE ON models WHEN typeof(NEW.id) NOT IN ('integer', 'null') OR abs(NEW.id) > 2147483647 OR typeof(NEW.name) NOT IN ('text', 'null') OR typeof(NEW.last_version) NOT IN ('integer', 'null') OR abs(NEW.last_version) > 2147483647 OR typeof(NEW.last_event) NOT IN ('text', 'null') OR typeof(NEW.created_at) NOT IN ('integer', 'null') OR typeof(NEW.four_eyes) NOT IN ('integer', 'null') OR NEW.four_eyes NOT IN (0, 1) OR typeof(NEW.keep_last) NOT IN ('integer', 'null') OR abs(NEW.keep_last) > 2147483647 OR typeof(NEW.keep_days) NOT IN ('integer', 'null') OR abs(NEW.keep_days) > 2147483647 OR typeof(NEW.keep_holders) NOT IN ('integer', 'null') OR abs(NEW.keep_holders) > 2147483647 BEGIN SELECT RAISE(ABORT, 'models: a value is not of the type of its column'); END;
CREATE TRIGGER params_stay_typed_on_insert BEFORE INSERT ON params WHEN typeof(NEW.id) NOT IN ('integer', 'null') OR abs(NEW.id) > 2147483647 OR typeof(NEW.sha256) NOT IN ('text', 'null') OR typeof(NEW.document) NOT IN ('text', 'null') BEGIN SELECT RAISE(ABORT, 'params: a value is not of the type of its column'); END;
CREATE TRIGGER registry_stay_typed_on_insert BEFORE INSERT ON registry WHEN typeof(NEW.id) NOT IN ('text', 'null') OR typeof(NEW.store) NOT IN ('text', 'null') OR typeof(NEW.created_at) NOT IN ('integer', 'null') BEGIN SELECT RAISE(ABORT, 'registry: a value is not of the type of its column'); END;
CREATE TRIGGER registry_stay_typed_on_update BEFORE UPDATE ON registry WHEN typeof(NEW.id) NOT IN ('text', 'null') OR typeof(NEW.store) NOT IN ('text', 'null') OR typeof(NEW.created_at) NOT IN ('integer', 'null') BEGIN SELECT RAISE(ABORT, 'registry: a value is not of the type of its column'); END;
CREATE TRIGGER param_values_stay_typed_on_insert BEFORE INSERT ON param_values WHEN typeof(NEW.params_id) NOT IN ('integer', 'null') OR abs(NEW.params_id) > 2147483647 OR typeof(NEW.key) NOT IN ('text', 'null') OR typeof(NEW.value) NOT IN ('text', 'null') BEGIN SELECT RAISE(ABORT, 'param_values: a value is not of the type of its column'); END;
CREATE TRIGGER protected_aliases_stay_typed_on_insert BEFORE INSERT ON protected_aliases WHEN typeof(NEW.model_id) NOT IN ('integer', 'null') OR abs(NEW.model_id) > 2147483647 OR typeof(NEW.alias) NOT IN ('text', 'null') BEGIN SELECT RAISE(ABORT, 'protected_aliases: a value is not of the type of its column'); END;
CREATE TRIGGER protected_aliases_stay_typed_on_update BEFORE UPDATE ON protected_aliases WHEN typeof(NEW.model_id) NOT IN ('integer', 'null') OR abs(NEW.model_id) > 2147483647 OR typeof(NEW.alias) NOT IN ('text', 'null') BEGIN SELECT RAISE(ABORT, 'protected_aliases: a value is not of the type of its column'); END;
CREATE TRIGGER versions_stay_typed_on_insert BEFORE INSERT ON versions WHEN typeof(NEW.id) NOT IN ('integer', 'null') OR abs(NEW.id) > 2147483647 OR typeof(NEW.uid) NOT IN ('text', 'null') OR typeof(NEW.model_id) NOT IN ('integer', 'null') OR abs(NEW.model_id) > 2147483647 OR typeof(NEW.version) NOT IN ('integer', 'null') OR abs(NEW.version) > 2147483647 OR typeof(NEW.digest) NOT IN ('text', 'null') OR typeof(NEW.dataset) NOT IN ('text', 'null') OR typeof(NEW.test_split) NOT IN ('text', 'null') OR typeof(NEW.signature) NOT IN ('text', 'null') OR typeof(NEW.params_id) NOT IN ('integer', 'null') OR abs(NEW.params_id) > 2147483647 OR typeof(NEW.libraries) NOT IN ('text', 'null') OR typeof(NEW.git_commit) NOT IN ('text', 'null') OR typeof(NEW.git_dirty) NOT IN ('integer', 'null') OR NEW.git_dirty NOT IN (0, 1) OR typeof(NEW.flow_run_id) NOT IN ('text', 'null') OR typeof(NEW.parent_id) NOT IN ('integer', 'null') OR abs(NEW.parent_id) > 2147483647 OR typeof(NEW.request_id) NOT IN ('text', 'null') OR typeof(NEW.created_at) NOT IN ('integer', 'null') OR typeof(NEW.created_by) NOT IN ('text', 'null') OR typeof(NEW.parent_uid) NOT IN ('text', 'null') BEGIN SELECT RAISE(ABORT, 'versions: a value is not of the type of its column'); END;
CREATE TRIGGER evaluations_stay_typed_on_insert BEFORE INSERT ON evaluations WHEN typeof(NEW.id) NOT IN ('integer', 'null') OR abs(NEW.id) > 2147483647 OR typeof(NEW.version_id) NOT IN ('integer', 'null') OR abs(NEW.version_id) > 2147483647 OR typeof(NEW.passed) NOT IN ('integer', 'null') OR NEW.passed NOT IN (0, 1) OR typeof(NEW.report) NOT IN ('text', 'null') OR typeof(NEW.at) NOT IN ('integer', 'null') OR typeof(NEW.actor) NOT IN ('text', 'null') BEGIN SELECT RAISE(ABORT, 'evaluations: a value is not of the type of its column'); END;
CREATE TRIGGER events_stay_typed_on_insert BEFORE INSERT ON events WHEN typeof(NEW.id) NOT IN ('integer', 'null') OR abs(NEW.id) > 2147483647 OR typeof(NEW.model_id) NOT IN ('integer', 'null') OR abs(NEW.model_id) > 2147483647 OR typeof(NEW.at) NOT IN ('integer', 'null') OR typeof(NEW.actor) NOT IN ('text', 'null') OR typeof(NEW.kind) NOT IN ('text', 'null') OR typeof(NEW.version) NOT IN ('integer', 'null') OR abs(NEW.version) > 2147483647 OR typeof(NEW.alias) NOT IN ('text', 'null') OR typeof(NEW.previous) NOT IN ('integer', 'null') OR abs(NEW.previous) > 2147483647 OR typeof(NEW.reason) NOT IN ('text', 'null') OR typeof(NEW.payload) NOT IN ('text', 'null') OR typeof(NEW.prev_hash) NOT IN ('text', 'null') OR typeof(NEW.hash) NOT IN ('text', 'null') BEGIN SELECT RAISE(ABORT, 'events: a value is not of the type of its column'); END;
CREATE TRIGGER jobs_stay_typed_on_insert BEFORE INSERT ON jobs WHEN typeof(NEW.id) NOT IN ('text', 'null') OR typeof(NEW.version_id) NOT IN ('integer', 'null') OR abs(NEW.version_id) > 2147483647 OR typeof(NEW.reference) NOT IN ('text', 'null') OR typeof(NEW.alias) NOT IN ('text', 'null') OR typeof(NEW.alias_revision) NOT IN ('integer', 'null') OR abs(NEW.alias_revision) > 2147483647 OR typeof(NEW.state) NOT IN ('text', 'null') OR typeof(NEW.input_sha256) NOT IN ('text', 'null') OR typeof(NEW.output) NOT IN ('text', 'null') OR typeof(NEW.rows) NOT IN ('integer', 'null') OR typeof(NEW.provider) NOT IN ('text', 'null') OR typeof(NEW.onnxruntime) NOT IN ('text', 'null') OR typeof(NEW.flow_run_id) NOT IN ('text', 'null') OR typeof(NEW.error) NOT IN ('text', 'null') OR typeof(NEW.started_at) NOT IN ('integer', 'null') OR typeof(NEW.finished_at) NOT IN ('integer', 'null') OR typeof(NEW.substituted) NOT IN ('text', 'null') OR typeof(NEW.quarantined) NOT IN ('integer', 'null') OR typeof(NEW.drift) NOT IN ('text', 'null') BEGIN SELECT RAISE(ABORT, 'jobs: a value is not of the type of its column'); END;
CREATE TRIGGER jobs_stay_typed_on_update BEFORE UPDATE ON jobs WHEN typeof(NEW.id) NOT IN ('text', 'null') OR typeof(NEW.version_id) NOT IN ('integer', 'null') OR abs(NEW.version_id) > 2147483647 OR typeof(NEW.reference) NOT IN ('text', 'null') OR typeof(NEW.alias) NOT IN ('text', 'null') OR typeof(NEW.alias_revision) NOT IN ('integer', 'null') OR abs(NEW.alias_revision) > 2147483647 OR typeof(NEW.state) NOT IN ('text', 'null') OR typeof(NEW.input_sha256) NOT IN ('text', 'null') OR typeof(NEW.output) NOT IN ('text', 'null') OR typeof(NEW.rows) NOT IN ('integer', 'null') OR typeof(NEW.provider) NOT IN ('text', 'null') OR typeof(NEW.onnxruntime) NOT IN ('text', 'null') OR typeof(NEW.flow_run_id) NOT IN ('text', 'null') OR typeof(NEW.error) NOT IN ('text', 'null') OR typeof(NEW.started_at) NOT IN ('integer', 'null') OR typeof(NEW.finished_at) NOT IN ('integer', 'null') OR typeof(NEW.substituted) NOT IN ('text', 'null') OR typeof(NEW.quarantined) NOT IN ('integer', 'null') OR typeof(NEW.drift) NOT IN ('text', 'null') BEGIN SELECT RAISE(ABORT, 'jobs: a value is not of the type of its column'); END;
CREATE TRIGGER version_artifacts_stay_typed_on_insert BEFORE INSERT ON version_artifacts WHEN typeof(NEW.version_id) NOT IN ('integer', 'null') OR abs(NEW.version_id) > 2147483647 OR typeof(NEW.path) NOT IN ('text', 'null') OR typeof(NEW.sha256) NOT IN ('text', 'null') OR typeof(NEW.size) NOT IN ('integer', 'null') OR typeof(NEW.identity) NOT IN ('integer', 'null') OR NEW.identity NOT IN (0, 1) BEGIN SELECT RAISE(ABORT, 'version_artifacts: a value is not of the type of its column'); END;
CREATE TRIGGER version_data_stay_typed_on_insert BEFORE INSERT ON version_data WHEN typeof(NEW.version_id) NOT IN ('integer', 'null') OR abs(NEW.version_id) > 2147483647 OR typeof(NEW.path) NOT IN ('text', 'null') OR typeof(NEW.md5) NOT IN ('text', 'null') BEGIN SELECT RAISE(ABORT, 'version_data: a value is not of the type of its column'); END;
CREATE TRIGGER version_metrics_stay_typed_on_insert BEFORE INSERT ON version_metrics WHEN typeof(NEW.version_id) NOT IN ('integer', 'null') OR abs(NEW.version_id) > 2147483647 OR typeof(NEW.key) NOT IN ('text', 'null') OR typeof(NEW.value) NOT IN ('real', 'integer', 'null') BEGIN SELECT RAISE(ABORT, 'version_metrics: a value is not of the type of its column'); END;
CREATE TRIGGER version_signatures_stay_typed_on_insert BEFORE INSERT ON version_signatures WHEN typeof(NEW.version_id) NOT IN ('integer', 'null') OR abs(NEW.version_id) > 2147483647 OR typeof(NEW.key_id) NOT IN ('text', 'null') OR typeof(NEW.document) NOT IN ('text', 'null') BEGIN SELECT RAISE(ABORT, 'version_signatures: a value is not of the type of its column'); END;
CREATE TRIGGER version_tags_stay_typed_on_insert BEFORE INSERT ON version_tags WHEN typeof(NEW.version_id) NOT IN ('integer', 'null') OR abs(NEW.version_id) > 2147483647 OR typeof(NEW.key) NOT IN ('text', 'null') OR typeof(NEW.value) NOT IN ('text', 'null') BEGIN SELECT RAISE(ABORT, 'version_tags: a value is not of the type of its column'); END;
CREATE TRIGGER version_tags_stay_typed_on_update BEFORE UPDATE ON version_tags WHEN typeof(NEW.version_id) NOT IN ('integer', 'null') OR abs(NEW.version_id) > 2147483647 OR typeof(NEW.key) NOT IN ('text', 'null') OR typeof(NEW.value) NOT IN ('text', 'null') BEGIN SELECT RAISE(ABORT, 'version_tags: a value is not of the type of its column'); END;
CREATE TRIGGER approvals_stay_typed_on_insert BEFORE INSERT ON approvals WHEN typeof(NEW.id) NOT IN ('integer', 'null') OR abs(NEW.id) > 2147483647 OR typeof(NEW.version_id) NOT IN ('integer', 'null') OR abs(NEW.version_id) > 2147483647 OR typeof(NEW.evaluation_id) NOT IN ('integer', 'null') OR abs(NEW.evaluation_id) > 2147483647 OR typeof(NEW.passed) NOT IN ('integer', 'null') OR NEW.passed NOT IN (0, 1) OR typeof(NEW.approver) NOT IN ('text', 'null') OR typeof(NEW.reason) NOT IN ('text', 'null') OR typeof(NEW.at) NOT IN ('integer', 'null') BEGIN SELECT RAISE(ABORT, 'approvals: a value is not of the type of its column'); END;
CREATE TRIGGER job_inputs_stay_typed_on_insert BEFORE INSERT ON job_inputs WHEN typeof(NEW.id) NOT IN ('integer', 'null') OR abs(NEW.id) > 2147483647 OR typeof(NEW.job_id) NOT IN ('text', 'null') OR typeof(NEW.sha256) NOT IN ('text', 'null') OR typeof(NEW.path) NOT IN ('text', 'null') OR typeof(NEW.rows) NOT IN ('integer', 'null') BEGIN SELECT RAISE(ABORT, 'job_inputs: a value is not of the type of its column'); END;
CREATE TRIGGER version_state_stay_typed_on_insert BEFORE INSERT ON version_state WHEN typeof(NEW.version_id) NOT IN ('integer', 'null') OR abs(NEW.version_id) > 2147483647 OR typeof(NEW.model_id) NOT IN ('integer', 'null') OR abs(NEW.model_id) > 2147483647 OR typeof(NEW.version) NOT IN ('integer', 'null') OR abs(NEW.version) > 2147483647 OR typeof(NEW.status) NOT IN ('text', 'null') OR typeof(NEW.approval_id) NOT IN ('integer', 'null') OR abs(NEW.approval_id) > 2147483647 BEGIN SELECT RAISE(ABORT, 'version_state: a value is not of the type of its column'); END;
CREATE TRIGGER version_state_stay_typed_on_update BEFORE UPDATE ON version_state WHEN typeof(NEW.version_id) NOT IN ('integer', 'null') OR abs(NEW.version_id) > 2147483647 OR typeof(NEW.model_id) NOT IN ('integer', 'null') OR abs(NEW.model_id) > 2147483647 OR typeof(NEW.version) NOT IN ('integer', 'null') OR abs(NEW.version) > 2147483647 OR typeof(NEW.status) NOT IN ('text', 'null') OR typeof(NEW.approval_id) NOT IN ('integer', 'null') OR abs(NEW.approval_id) > 2147483647 BEGIN SELECT RAISE(ABORT, 'version_state: a value is not of the type of its column'); END;
CREATE TRIGGER aliases_stay_typed_on_insert BEFORE INSERT ON aliases WHEN typeof(NEW.model_id) NOT IN ('integer', 'null') OR abs(NEW.model_id) > 2147483647 OR typeof(NEW.alias) NOT IN ('text', 'null') OR typeof(NEW.version) NOT IN ('integer', 'null') OR abs(NEW.version) > 2147483647 OR typeof(NEW.status) NOT IN ('text', 'null') OR typeof(NEW.revision) NOT IN ('integer', 'null') OR abs(NEW.revision) > 2147483647 BEGIN SELECT RAISE(ABORT, 'aliases: a value is not of the type of its column'); END;
CREATE TRIGGER aliases_stay_typed_on_update BEFORE UPDATE ON aliases WHEN typeof(NEW.model_id) NOT IN ('integer', 'null') OR abs(NEW.model_id) > 2147483647 OR typeof(NEW.alias) NOT IN ('text', 'null') OR typeof(NEW.version) NOT IN ('integer', 'null') OR abs(NEW.version) > 2147483647 OR typeof(NEW.status) NOT IN ('text', 'null') OR typeof(NEW.revision) NOT IN ('integer', 'null') OR abs(NEW.revision) > 2147483647 BEGIN SELECT RAISE(ABORT, 'aliases: a value is not of the type of its column'); END;
CREATE TRIGGER versions_move_the_count AFTER INSERT ON versions BEGIN UPDATE models SET last_version = NEW.version WHERE id = NEW.model_id; END;
CREATE TRIGGER versions_begin_as_candidates AFTER INSERT ON versions BEGIN INSERT INTO version_state (version_id, model_id, version, status) VALUES (NEW.id, NEW.model_id, NEW.version, 'candidate'); END;
CREATE TRIGGER events_move_the_head AFTER INSERT ON events BEGIN UPDATE models SET last_event = NEW.hash WHERE id = NEW.model_id; END;
CREATE TRIGGER version_state_carries_its_aliases AFTER UPDATE ON version_state BEGIN UPDATE aliases SET status = NEW.status WHERE model_id = NEW.model_id AND version = NEW.version AND status <> NEW.status; END;
COMMIT;
