-- Tenants' rows carry the tenant in every key; ids are text, times are microseconds UTC.

CREATE TABLE installation (
    one INTEGER NOT NULL CHECK (one = 1),
    installation_id TEXT NOT NULL,
    root_key BLOB NOT NULL,
    kms TEXT NOT NULL,
    check_value BLOB NOT NULL,
    context_key BLOB NOT NULL,
    log_key BLOB NOT NULL,
    lookup_key BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (one)
) STRICT;

CREATE TABLE tenant (
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    issuer TEXT,
    external TEXT,
    state TEXT NOT NULL CHECK (state IN ('active', 'deleted')),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id)
) STRICT;

-- Which tenant an issuer means by a name. Not a tenant's data: it is what finds the tenant.
CREATE TABLE tenant_name (
    issuer TEXT NOT NULL,
    external TEXT NOT NULL,
    owner TEXT NOT NULL,
    PRIMARY KEY (issuer, external)
) STRICT;
CREATE INDEX tenant_name_owner ON tenant_name (owner);

CREATE TABLE tenant_key (
    tenant_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    generation INTEGER NOT NULL CHECK (generation > 0),
    state TEXT NOT NULL CHECK (state IN ('active', 'decrypt_only', 'retired', 'destroyed')),
    sealed BLOB NOT NULL,
    check_value BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key_id),
    UNIQUE (tenant_id, generation)
) STRICT;
CREATE UNIQUE INDEX tenant_key_active ON tenant_key (tenant_id) WHERE state = 'active';

CREATE TABLE member (
    tenant_id TEXT NOT NULL,
    member_id TEXT NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'member', 'admin', 'owner')),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, member_id),
    UNIQUE (tenant_id, issuer, subject)
) STRICT;

CREATE TABLE api_key (
    tenant_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('service', 'operator')),
    hash BLOB NOT NULL,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    addresses TEXT NOT NULL,
    bound TEXT,
    expires_at INTEGER,
    last_used_at INTEGER,
    revoked_at INTEGER,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key_id),
    UNIQUE (tenant_id, hash)
) STRICT;
CREATE INDEX api_key_hash ON api_key (hash);
CREATE INDEX api_key_key_id ON api_key (key_id);

-- Without a rowid: a tenant's rows lie together, and listing them reads a page or two.
CREATE TABLE integration (
    tenant_id TEXT NOT NULL,
    integration_id TEXT NOT NULL,
    name TEXT NOT NULL,
    provider TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('verifying', 'connected', 'error', 'reauthorize')),
    config TEXT NOT NULL,
    hint TEXT,
    credential_version INTEGER NOT NULL CHECK (credential_version > 0),
    disabled INTEGER NOT NULL CHECK (disabled IN (0, 1)),
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    last_used_at INTEGER,
    last_verified_at INTEGER,
    error_message TEXT,
    revision INTEGER NOT NULL CHECK (revision > 0),
    PRIMARY KEY (tenant_id, integration_id),
    UNIQUE (tenant_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE credential (
    tenant_id TEXT NOT NULL,
    integration_id TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    key_id TEXT NOT NULL,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, version),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration (tenant_id, integration_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, key_id) REFERENCES tenant_key (tenant_id, key_id)
) STRICT;
CREATE INDEX credential_key ON credential (tenant_id, key_id);

CREATE TABLE idempotency (
    tenant_id TEXT NOT NULL,
    caller TEXT NOT NULL,
    idem_key TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    response BLOB NOT NULL,
    status INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, caller, idem_key)
) STRICT;
CREATE INDEX idempotency_created ON idempotency (tenant_id, created_at);

-- What a grant at a provider is used with. `token_version` only grows, and shares nothing with any counter of uses;
-- `fence` grows with each lease on the renewal; `intent` is 1 from before the call until its answer is stored.
CREATE TABLE token_set (
    tenant_id TEXT NOT NULL,
    integration_id TEXT NOT NULL,
    credential_version INTEGER NOT NULL CHECK (credential_version > 0),
    token_version INTEGER NOT NULL CHECK (token_version > 0),
    state TEXT NOT NULL CHECK (state IN ('live', 'reauthorize')),
    key_id TEXT NOT NULL,
    sealed BLOB NOT NULL,
    expires_at INTEGER,
    refresh_expires_at INTEGER,
    renew_at INTEGER,
    holder TEXT,
    fence INTEGER NOT NULL CHECK (fence >= 0),
    lease_until INTEGER,
    intent INTEGER NOT NULL CHECK (intent IN (0, 1)),
    failures INTEGER NOT NULL CHECK (failures >= 0),
    failing_since INTEGER,
    problem TEXT,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, integration_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration (tenant_id, integration_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, key_id) REFERENCES tenant_key (tenant_id, key_id)
) STRICT;
CREATE INDEX token_set_renew ON token_set (renew_at);
CREATE INDEX token_set_key ON token_set (tenant_id, key_id);

-- A link to the connect page, for one person and a short while.
CREATE TABLE connect_session (
    tenant_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    hash BLOB NOT NULL,
    browser_hash BLOB,
    actor TEXT NOT NULL,
    providers TEXT NOT NULL,
    return_url TEXT,
    expires_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    closed_at INTEGER,
    PRIMARY KEY (tenant_id, session_id),
    UNIQUE (tenant_id, hash)
) STRICT;
CREATE INDEX connect_session_hash ON connect_session (hash);
CREATE INDEX connect_session_expires ON connect_session (expires_at);

-- A consent under way: the one-time state that the provider brings back. (AUTHORIZATION is a word of SQL's.)
CREATE TABLE pending_authorization (
    tenant_id TEXT NOT NULL,
    authorization_id TEXT NOT NULL,
    state_hash BLOB NOT NULL,
    bound_to TEXT NOT NULL,
    caller TEXT NOT NULL,
    provider TEXT NOT NULL,
    integration_id TEXT,
    name TEXT,
    config TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    session_id TEXT,
    key_id TEXT NOT NULL,
    sealed BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, authorization_id),
    UNIQUE (tenant_id, state_hash),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration (tenant_id, integration_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, session_id) REFERENCES connect_session (tenant_id, session_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, key_id) REFERENCES tenant_key (tenant_id, key_id)
) STRICT;
CREATE INDEX pending_authorization_state ON pending_authorization (state_hash);
CREATE INDEX pending_authorization_expires ON pending_authorization (expires_at);
CREATE INDEX pending_authorization_integration ON pending_authorization (tenant_id, integration_id);
CREATE INDEX pending_authorization_session ON pending_authorization (tenant_id, session_id);
CREATE INDEX pending_authorization_key ON pending_authorization (tenant_id, key_id);

-- Work that one node at a time does. Not a tenant's data.
CREATE TABLE duty (
    name TEXT NOT NULL,
    holder TEXT NOT NULL,
    fence INTEGER NOT NULL CHECK (fence > 0),
    until INTEGER NOT NULL,
    PRIMARY KEY (name)
) STRICT;

-- Grants that are taken back together; `total` is unknown until all of them have been found.
CREATE TABLE revocation_batch (
    tenant_id TEXT NOT NULL,
    batch_id TEXT NOT NULL,
    asked_by TEXT NOT NULL,
    selector TEXT NOT NULL,
    total INTEGER CHECK (total >= 0),
    created_at INTEGER NOT NULL,
    closed_at INTEGER,
    receipt TEXT,
    PRIMARY KEY (tenant_id, batch_id)
) STRICT;
CREATE INDEX revocation_batch_open ON revocation_batch (batch_id) WHERE closed_at IS NULL;

-- One grant to take back at its provider. It outlives its integration, and is its tenant's, also where the batch is
-- the platform's; what was sealed stays only until the provider has answered for good.
CREATE TABLE revocation (
    tenant_id TEXT NOT NULL,
    revocation_id TEXT NOT NULL,
    batch_tenant TEXT NOT NULL,
    batch_id TEXT NOT NULL,
    integration_id TEXT NOT NULL,
    name TEXT NOT NULL,
    provider TEXT NOT NULL,
    config TEXT NOT NULL,
    mode TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'confirmed', 'unsupported', 'failed')),
    key_id TEXT,
    sealed BLOB,
    attempts INTEGER NOT NULL CHECK (attempts >= 0),
    next_at INTEGER,
    detail TEXT,
    manual_url TEXT,
    created_at INTEGER NOT NULL,
    settled_at INTEGER,
    remark TEXT,
    PRIMARY KEY (tenant_id, revocation_id),
    FOREIGN KEY (tenant_id, key_id) REFERENCES tenant_key (tenant_id, key_id),
    CHECK (state = 'pending' OR sealed IS NULL AND next_at IS NULL AND settled_at IS NOT NULL)
) STRICT;
CREATE INDEX revocation_next ON revocation (next_at);
CREATE INDEX revocation_batch_items ON revocation (batch_tenant, batch_id, revocation_id);
CREATE INDEX revocation_integration ON revocation (tenant_id, integration_id);
CREATE INDEX revocation_key ON revocation (tenant_id, key_id);

-- A credential on its way to the next one, and how often that is done.
CREATE TABLE rotation (
    tenant_id TEXT NOT NULL,
    integration_id TEXT NOT NULL,
    step TEXT NOT NULL,
    credential_version INTEGER NOT NULL CHECK (credential_version > 0),
    every_seconds INTEGER CHECK (every_seconds > 0),
    grace_seconds INTEGER NOT NULL CHECK (grace_seconds >= 0),
    rotated_at INTEGER,
    next_at INTEGER,
    key_id TEXT,
    sealed BLOB,
    attempts INTEGER NOT NULL CHECK (attempts >= 0),
    detail TEXT,
    started_at INTEGER,
    revision INTEGER NOT NULL CHECK (revision > 0),
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, integration_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration (tenant_id, integration_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, key_id) REFERENCES tenant_key (tenant_id, key_id)
) STRICT;
CREATE INDEX rotation_next ON rotation (next_at);
CREATE INDEX rotation_key ON rotation (tenant_id, key_id);

-- The audit log. What is hashed is the leaf; the other columns are for finding it.
CREATE TABLE entry (
    tenant_id TEXT NOT NULL,
    seq INTEGER NOT NULL CHECK (seq >= 0),
    at INTEGER NOT NULL,
    action TEXT NOT NULL,
    on_kind TEXT NOT NULL,
    target TEXT,
    outcome TEXT NOT NULL,
    changed INTEGER NOT NULL CHECK (changed IN (0, 1)),
    leaf TEXT NOT NULL,
    PRIMARY KEY (tenant_id, seq)
) STRICT;
CREATE INDEX entry_seq ON entry (seq);
CREATE INDEX entry_changed ON entry (seq) WHERE changed = 1;

CREATE TABLE log_head (
    one INTEGER NOT NULL CHECK (one = 1),
    size INTEGER NOT NULL CHECK (size >= 0),
    frontier BLOB NOT NULL,
    root BLOB NOT NULL,
    PRIMARY KEY (one)
) STRICT;
INSERT INTO log_head (one, size, frontier, root) VALUES
    (1, 0, X'0000000000000000', X'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');

CREATE TABLE log_tile (
    level INTEGER NOT NULL CHECK (level >= 0),
    idx INTEGER NOT NULL CHECK (idx >= 0),
    hashes BLOB NOT NULL,
    root BLOB NOT NULL,
    PRIMARY KEY (level, idx)
) STRICT;

CREATE TABLE limit_count (
    subject TEXT NOT NULL,
    window_start INTEGER NOT NULL,
    node TEXT NOT NULL,
    counted INTEGER NOT NULL CHECK (counted >= 0),
    PRIMARY KEY (subject, window_start, node)
) STRICT;
CREATE INDEX limit_count_window ON limit_count (window_start);

-- The log only grows.
CREATE TRIGGER entry_never_changes BEFORE UPDATE ON entry
    BEGIN SELECT RAISE(ABORT, 'entries never change'); END;
CREATE TRIGGER entry_never_goes BEFORE DELETE ON entry
    BEGIN SELECT RAISE(ABORT, 'entries never change'); END;

-- A row stays its tenant's.
CREATE TRIGGER tenant_stays BEFORE UPDATE OF tenant_id ON tenant WHEN new.tenant_id <> old.tenant_id
    BEGIN SELECT RAISE(ABORT, 'a row stays its tenant''s'); END;
CREATE TRIGGER tenant_key_stays BEFORE UPDATE OF tenant_id ON tenant_key WHEN new.tenant_id <> old.tenant_id
    BEGIN SELECT RAISE(ABORT, 'a row stays its tenant''s'); END;
CREATE TRIGGER member_stays BEFORE UPDATE OF tenant_id ON member WHEN new.tenant_id <> old.tenant_id
    BEGIN SELECT RAISE(ABORT, 'a row stays its tenant''s'); END;
CREATE TRIGGER api_key_stays BEFORE UPDATE OF tenant_id ON api_key WHEN new.tenant_id <> old.tenant_id
    BEGIN SELECT RAISE(ABORT, 'a row stays its tenant''s'); END;
CREATE TRIGGER integration_stays BEFORE UPDATE OF tenant_id ON integration WHEN new.tenant_id <> old.tenant_id
    BEGIN SELECT RAISE(ABORT, 'a row stays its tenant''s'); END;
CREATE TRIGGER credential_stays BEFORE UPDATE OF tenant_id ON credential WHEN new.tenant_id <> old.tenant_id
    BEGIN SELECT RAISE(ABORT, 'a row stays its tenant''s'); END;
CREATE TRIGGER idempotency_stays BEFORE UPDATE OF tenant_id ON idempotency WHEN new.tenant_id <> old.tenant_id
    BEGIN SELECT RAISE(ABORT, 'a row stays its tenant''s'); END;
CREATE TRIGGER token_set_stays BEFORE UPDATE OF tenant_id ON token_set WHEN new.tenant_id <> old.tenant_id
    BEGIN SELECT RAISE(ABORT, 'a row stays its tenant''s'); END;
CREATE TRIGGER connect_session_stays BEFORE UPDATE OF tenant_id ON connect_session WHEN new.tenant_id <> old.tenant_id
    BEGIN SELECT RAISE(ABORT, 'a row stays its tenant''s'); END;
CREATE TRIGGER pending_authorization_stays BEFORE UPDATE OF tenant_id ON pending_authorization WHEN new.tenant_id <> old.tenant_id
    BEGIN SELECT RAISE(ABORT, 'a row stays its tenant''s'); END;
CREATE TRIGGER revocation_batch_stays BEFORE UPDATE OF tenant_id ON revocation_batch WHEN new.tenant_id <> old.tenant_id
    BEGIN SELECT RAISE(ABORT, 'a row stays its tenant''s'); END;
CREATE TRIGGER revocation_stays BEFORE UPDATE OF tenant_id ON revocation WHEN new.tenant_id <> old.tenant_id
    BEGIN SELECT RAISE(ABORT, 'a row stays its tenant''s'); END;
CREATE TRIGGER rotation_stays BEFORE UPDATE OF tenant_id ON rotation WHEN new.tenant_id <> old.tenant_id
    BEGIN SELECT RAISE(ABORT, 'a row stays its tenant''s'); END;
