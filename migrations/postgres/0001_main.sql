-- Tenants' rows carry the tenant in every key; ids are text, times are microseconds UTC. Run as
-- keystead_owner with the schema keystead on the path, after the roles were made.

CREATE TABLE installation (
    one BIGINT NOT NULL CHECK (one = 1),
    installation_id TEXT COLLATE "C" NOT NULL,
    root_key BYTEA NOT NULL,
    kms TEXT NOT NULL,
    check_value BYTEA NOT NULL,
    context_key BYTEA NOT NULL,
    log_key BYTEA NOT NULL,
    lookup_key BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (one)
);

CREATE TABLE tenant (
    tenant_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    issuer TEXT COLLATE "C",
    external TEXT COLLATE "C",
    state TEXT NOT NULL CHECK (state IN ('active', 'deleted')),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id)
);

-- Which tenant an issuer means by a name. Not a tenant's data: it is what finds the tenant.
CREATE TABLE tenant_name (
    issuer TEXT COLLATE "C" NOT NULL,
    external TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (issuer, external)
);
CREATE INDEX tenant_name_owner ON tenant_name (owner);

CREATE TABLE tenant_key (
    tenant_id TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    generation BIGINT NOT NULL CHECK (generation > 0),
    state TEXT NOT NULL CHECK (state IN ('active', 'decrypt_only', 'retired', 'destroyed')),
    sealed BYTEA NOT NULL,
    check_value BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, key_id),
    UNIQUE (tenant_id, generation)
);
CREATE UNIQUE INDEX tenant_key_active ON tenant_key (tenant_id) WHERE state = 'active';

CREATE TABLE member (
    tenant_id TEXT COLLATE "C" NOT NULL,
    member_id TEXT COLLATE "C" NOT NULL,
    issuer TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'member', 'admin', 'owner')),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, member_id),
    UNIQUE (tenant_id, issuer, subject)
);

CREATE TABLE api_key (
    tenant_id TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('service', 'operator')),
    hash BYTEA NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    scopes TEXT NOT NULL,
    addresses TEXT NOT NULL,
    bound TEXT COLLATE "C",
    expires_at BIGINT,
    last_used_at BIGINT,
    revoked_at BIGINT,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, key_id),
    UNIQUE (tenant_id, hash)
);
CREATE INDEX api_key_hash ON api_key (hash);
CREATE INDEX api_key_key_id ON api_key (key_id);

CREATE TABLE integration (
    tenant_id TEXT COLLATE "C" NOT NULL,
    integration_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    provider TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('verifying', 'connected', 'error', 'reauthorize')),
    config TEXT NOT NULL,
    hint TEXT,
    credential_version BIGINT NOT NULL CHECK (credential_version > 0),
    disabled BIGINT NOT NULL CHECK (disabled IN (0, 1)),
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    last_used_at BIGINT,
    last_verified_at BIGINT,
    error_message TEXT,
    revision BIGINT NOT NULL CHECK (revision > 0),
    PRIMARY KEY (tenant_id, integration_id),
    UNIQUE (tenant_id, name)
);

CREATE TABLE credential (
    tenant_id TEXT COLLATE "C" NOT NULL,
    integration_id TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL CHECK (version > 0),
    key_id TEXT COLLATE "C" NOT NULL,
    sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, version),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration (tenant_id, integration_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, key_id) REFERENCES tenant_key (tenant_id, key_id)
);
CREATE INDEX credential_key ON credential (tenant_id, key_id);

CREATE TABLE idempotency (
    tenant_id TEXT COLLATE "C" NOT NULL,
    caller TEXT COLLATE "C" NOT NULL,
    idem_key TEXT COLLATE "C" NOT NULL,
    request_hash BYTEA NOT NULL,
    response BYTEA NOT NULL,
    status BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, caller, idem_key)
);
CREATE INDEX idempotency_created ON idempotency (tenant_id, created_at);

-- What a grant at a provider is used with. `token_version` only grows, and shares nothing with any counter of uses;
-- `fence` grows with each lease on the renewal; `intent` is 1 from before the call until its answer is stored.
CREATE TABLE token_set (
    tenant_id TEXT COLLATE "C" NOT NULL,
    integration_id TEXT COLLATE "C" NOT NULL,
    credential_version BIGINT NOT NULL CHECK (credential_version > 0),
    token_version BIGINT NOT NULL CHECK (token_version > 0),
    state TEXT NOT NULL CHECK (state IN ('live', 'reauthorize')),
    key_id TEXT COLLATE "C" NOT NULL,
    sealed BYTEA NOT NULL,
    expires_at BIGINT,
    refresh_expires_at BIGINT,
    renew_at BIGINT,
    holder TEXT COLLATE "C",
    fence BIGINT NOT NULL CHECK (fence >= 0),
    lease_until BIGINT,
    intent BIGINT NOT NULL CHECK (intent IN (0, 1)),
    failures BIGINT NOT NULL CHECK (failures >= 0),
    failing_since BIGINT,
    problem TEXT,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, integration_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration (tenant_id, integration_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, key_id) REFERENCES tenant_key (tenant_id, key_id)
);
CREATE INDEX token_set_renew ON token_set (renew_at);
CREATE INDEX token_set_key ON token_set (tenant_id, key_id);

-- A link to the connect page, for one person and a short while.
CREATE TABLE connect_session (
    tenant_id TEXT COLLATE "C" NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL,
    hash BYTEA NOT NULL,
    browser_hash BYTEA,
    actor TEXT NOT NULL,
    providers TEXT NOT NULL,
    return_url TEXT,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    closed_at BIGINT,
    PRIMARY KEY (tenant_id, session_id),
    UNIQUE (tenant_id, hash)
);
CREATE INDEX connect_session_hash ON connect_session (hash);
CREATE INDEX connect_session_expires ON connect_session (expires_at);

-- A consent under way: the one-time state that the provider brings back. (AUTHORIZATION is a word of SQL's.)
CREATE TABLE pending_authorization (
    tenant_id TEXT COLLATE "C" NOT NULL,
    authorization_id TEXT COLLATE "C" NOT NULL,
    state_hash BYTEA NOT NULL,
    bound_to TEXT NOT NULL,
    caller TEXT NOT NULL,
    provider TEXT NOT NULL,
    integration_id TEXT COLLATE "C",
    name TEXT COLLATE "C",
    config TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    session_id TEXT COLLATE "C",
    key_id TEXT COLLATE "C" NOT NULL,
    sealed BYTEA NOT NULL,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, authorization_id),
    UNIQUE (tenant_id, state_hash),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration (tenant_id, integration_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, session_id) REFERENCES connect_session (tenant_id, session_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, key_id) REFERENCES tenant_key (tenant_id, key_id)
);
CREATE INDEX pending_authorization_state ON pending_authorization (state_hash);
CREATE INDEX pending_authorization_expires ON pending_authorization (expires_at);
CREATE INDEX pending_authorization_integration ON pending_authorization (tenant_id, integration_id);
CREATE INDEX pending_authorization_session ON pending_authorization (tenant_id, session_id);
CREATE INDEX pending_authorization_key ON pending_authorization (tenant_id, key_id);

-- Work that one node at a time does. Not a tenant's data.
CREATE TABLE duty (
    name TEXT COLLATE "C" NOT NULL,
    holder TEXT COLLATE "C" NOT NULL,
    fence BIGINT NOT NULL CHECK (fence > 0),
    until BIGINT NOT NULL,
    PRIMARY KEY (name)
);

-- Grants that are taken back together; `total` is unknown until all of them have been found.
CREATE TABLE revocation_batch (
    tenant_id TEXT COLLATE "C" NOT NULL,
    batch_id TEXT COLLATE "C" NOT NULL,
    asked_by TEXT NOT NULL,
    selector TEXT NOT NULL,
    total BIGINT CHECK (total >= 0),
    created_at BIGINT NOT NULL,
    closed_at BIGINT,
    receipt TEXT,
    PRIMARY KEY (tenant_id, batch_id)
);
CREATE INDEX revocation_batch_open ON revocation_batch (batch_id) WHERE closed_at IS NULL;

-- One grant to take back at its provider. It outlives its integration, and is its tenant's, also where the batch is
-- the platform's; what was sealed stays only until the provider has answered for good.
CREATE TABLE revocation (
    tenant_id TEXT COLLATE "C" NOT NULL,
    revocation_id TEXT COLLATE "C" NOT NULL,
    batch_tenant TEXT COLLATE "C" NOT NULL,
    batch_id TEXT COLLATE "C" NOT NULL,
    integration_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    provider TEXT NOT NULL,
    config TEXT NOT NULL,
    mode TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'confirmed', 'unsupported', 'failed')),
    key_id TEXT COLLATE "C",
    sealed BYTEA,
    attempts BIGINT NOT NULL CHECK (attempts >= 0),
    next_at BIGINT,
    detail TEXT,
    manual_url TEXT,
    created_at BIGINT NOT NULL,
    settled_at BIGINT,
    remark TEXT,
    PRIMARY KEY (tenant_id, revocation_id),
    FOREIGN KEY (tenant_id, key_id) REFERENCES tenant_key (tenant_id, key_id),
    CHECK (state = 'pending' OR sealed IS NULL AND next_at IS NULL AND settled_at IS NOT NULL)
);
CREATE INDEX revocation_next ON revocation (next_at);
CREATE INDEX revocation_batch_items ON revocation (batch_tenant, batch_id, revocation_id);
CREATE INDEX revocation_integration ON revocation (tenant_id, integration_id);
CREATE INDEX revocation_key ON revocation (tenant_id, key_id);

-- A credential on its way to the next one, and how often that is done.
CREATE TABLE rotation (
    tenant_id TEXT COLLATE "C" NOT NULL,
    integration_id TEXT COLLATE "C" NOT NULL,
    step TEXT NOT NULL,
    credential_version BIGINT NOT NULL CHECK (credential_version > 0),
    every_seconds BIGINT CHECK (every_seconds > 0),
    grace_seconds BIGINT NOT NULL CHECK (grace_seconds >= 0),
    rotated_at BIGINT,
    next_at BIGINT,
    key_id TEXT COLLATE "C",
    sealed BYTEA,
    attempts BIGINT NOT NULL CHECK (attempts >= 0),
    detail TEXT,
    started_at BIGINT,
    revision BIGINT NOT NULL CHECK (revision > 0),
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, integration_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration (tenant_id, integration_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, key_id) REFERENCES tenant_key (tenant_id, key_id)
);
CREATE INDEX rotation_next ON rotation (next_at);
CREATE INDEX rotation_key ON rotation (tenant_id, key_id);

-- The audit log. What is hashed is the leaf; the other columns are for finding it.
CREATE TABLE entry (
    tenant_id TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL CHECK (seq >= 0),
    at BIGINT NOT NULL,
    action TEXT NOT NULL,
    on_kind TEXT NOT NULL,
    target TEXT,
    outcome TEXT NOT NULL,
    changed BIGINT NOT NULL CHECK (changed IN (0, 1)),
    leaf TEXT NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);
CREATE INDEX entry_seq ON entry (seq);
CREATE INDEX entry_changed ON entry (seq) WHERE changed = 1;

CREATE TABLE log_head (
    one BIGINT NOT NULL CHECK (one = 1),
    size BIGINT NOT NULL CHECK (size >= 0),
    frontier BYTEA NOT NULL,
    root BYTEA NOT NULL,
    PRIMARY KEY (one)
) WITH (fillfactor = 10);
INSERT INTO log_head (one, size, frontier, root) VALUES
    (1, 0, '\x0000000000000000', '\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');

CREATE TABLE log_tile (
    level BIGINT NOT NULL CHECK (level >= 0),
    idx BIGINT NOT NULL CHECK (idx >= 0),
    hashes BYTEA NOT NULL,
    root BYTEA NOT NULL,
    PRIMARY KEY (level, idx)
);

CREATE TABLE limit_count (
    subject TEXT COLLATE "C" NOT NULL,
    window_start BIGINT NOT NULL,
    node TEXT COLLATE "C" NOT NULL,
    counted BIGINT NOT NULL CHECK (counted >= 0),
    PRIMARY KEY (subject, window_start, node)
);
CREATE INDEX limit_count_window ON limit_count (window_start);

-- Only here: what the signed tenant context is checked with, as the two padded keys of an HMAC.
CREATE TABLE context_key (
    one BIGINT NOT NULL CHECK (one = 1),
    inner_pad BYTEA NOT NULL CHECK (length(inner_pad) = 64),
    outer_pad BYTEA NOT NULL CHECK (length(outer_pad) = 64),
    PRIMARY KEY (one)
);

-- The tenant that this transaction may see: of "tenant|expiry|backend|HMAC-SHA-256", the first, if all
-- of it holds. Nothing, where there is no context, or it has expired or is another connection's; an
-- error, where it is forged.
CREATE FUNCTION tenant() RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parts text[] := string_to_array(current_setting('keystead.context', true), '|');
    message bytea;
    pads record;
BEGIN
    IF array_length(parts, 1) IS DISTINCT FROM 4 THEN
        RETURN NULL;
    END IF;
    SELECT inner_pad, outer_pad INTO pads FROM keystead.context_key;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    message := convert_to(array_to_string(parts[1:3], '|'), 'UTF8');
    IF encode(sha256(pads.outer_pad || sha256(pads.inner_pad || message)), 'hex') IS DISTINCT FROM parts[4] THEN
        RAISE EXCEPTION 'the tenant context is forged' USING ERRCODE = '28000';
    END IF;
    IF parts[2]::bigint < extract(epoch FROM clock_timestamp()) OR parts[3] <> pg_backend_pid()::text THEN
        RETURN NULL;
    END IF;
    RETURN parts[1];
END
$$;

-- Hands the context's key to the first start, which seals it into the installation's row; then never again.
CREATE FUNCTION take_context_key() RETURNS bytea LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    SELECT inner_pad FROM keystead.context_key WHERE NOT EXISTS (SELECT FROM keystead.installation)
$$;

-- The clock that leases are judged by, under the name that SQLite has for it, so that statements are the same.
CREATE FUNCTION unixepoch(at text, unit text) RETURNS double precision LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT extract(epoch FROM clock_timestamp())::double precision
$$;

-- A row stays its tenant's.
CREATE FUNCTION tenant_stays() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF new.tenant_id IS DISTINCT FROM old.tenant_id THEN
        RAISE EXCEPTION 'a row stays its tenant''s' USING ERRCODE = '23514';
    END IF;
    RETURN new;
END
$$;

REVOKE ALL ON FUNCTION tenant(), take_context_key(), tenant_stays(), unixepoch(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenant(), unixepoch(text, text) TO keystead_app, keystead_system;
GRANT EXECUTE ON FUNCTION take_context_key() TO keystead_system;

DO $$
DECLARE
    own CONSTANT text := 'tenant_id = (SELECT keystead.tenant())';
    t text;
BEGIN
    -- Every table: nothing is seen that a policy does not show, not by the owner either.
    FOR t IN SELECT relname FROM pg_class WHERE relnamespace = 'keystead'::regnamespace AND relkind = 'r' LOOP
        EXECUTE format('ALTER TABLE keystead.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE keystead.%I FORCE ROW LEVEL SECURITY', t);
    END LOOP;

    -- Tenants' rows: the tenant's own, and nothing else whatever may be permitted later.
    FOREACH t IN ARRAY ARRAY['member', 'integration', 'credential', 'idempotency'] LOOP
        EXECUTE format('CREATE POLICY own ON keystead.%1$I TO keystead_app, keystead_system USING (%2$s) WITH CHECK (%2$s)', t, own);
        EXECUTE format('CREATE POLICY only_own ON keystead.%1$I AS RESTRICTIVE TO keystead_app, keystead_system USING (%2$s) WITH CHECK (%2$s)', t, own);
    END LOOP;

    -- Rows by which the system role finds the tenant, or what is due: it sees all and changes a tenant's own.
    FOREACH t IN ARRAY ARRAY['tenant', 'tenant_key', 'api_key', 'token_set', 'connect_session', 'pending_authorization',
        'revocation_batch', 'revocation', 'rotation'] LOOP
        EXECUTE format('CREATE POLICY own ON keystead.%1$I TO keystead_app, keystead_system USING (%2$s) WITH CHECK (%2$s)', t, own);
        EXECUTE format('CREATE POLICY lookup ON keystead.%I FOR SELECT TO keystead_system USING (true)', t);
        EXECUTE format('CREATE POLICY only_own ON keystead.%1$I AS RESTRICTIVE TO keystead_app USING (%2$s) WITH CHECK (%2$s)', t, own);
        EXECUTE format('CREATE POLICY only_own_insert ON keystead.%I AS RESTRICTIVE FOR INSERT TO keystead_system WITH CHECK (%s)', t, own);
        EXECUTE format('CREATE POLICY only_own_update ON keystead.%1$I AS RESTRICTIVE FOR UPDATE TO keystead_system USING (%2$s) WITH CHECK (%2$s)', t, own);
        EXECUTE format('CREATE POLICY only_own_delete ON keystead.%I AS RESTRICTIVE FOR DELETE TO keystead_system USING (%s)', t, own);
    END LOOP;

    FOREACH t IN ARRAY ARRAY['tenant', 'tenant_key', 'member', 'api_key', 'integration', 'credential', 'idempotency', 'entry',
        'token_set', 'connect_session', 'pending_authorization', 'revocation_batch', 'revocation', 'rotation'] LOOP
        EXECUTE format('CREATE TRIGGER tenant_stays BEFORE UPDATE OF tenant_id ON keystead.%I FOR EACH ROW EXECUTE FUNCTION keystead.tenant_stays()', t);
    END LOOP;

    -- The platform's own tables: no tenant's, so the system role's alone.
    FOREACH t IN ARRAY ARRAY['installation', 'tenant_name', 'log_head', 'log_tile', 'limit_count', 'duty'] LOOP
        EXECUTE format('CREATE POLICY platform ON keystead.%I TO keystead_system USING (true) WITH CHECK (true)', t);
    END LOOP;
END
$$;

-- The log: a tenant reads its own; the system role appends and reads all, and no role changes any.
CREATE POLICY own ON entry FOR SELECT TO keystead_app USING (tenant_id = (SELECT tenant()));
CREATE POLICY only_own ON entry AS RESTRICTIVE TO keystead_app
    USING (tenant_id = (SELECT tenant())) WITH CHECK (tenant_id = (SELECT tenant()));
CREATE POLICY record ON entry FOR INSERT TO keystead_system WITH CHECK (true);
CREATE POLICY follow ON entry FOR SELECT TO keystead_system USING (true);

-- What the two SECURITY DEFINER functions read, and what both roles compare at start.
CREATE POLICY definer ON context_key FOR SELECT TO keystead_owner USING (true);
CREATE POLICY definer_insert ON context_key FOR INSERT TO keystead_owner WITH CHECK (true);
CREATE POLICY definer ON installation FOR SELECT TO keystead_owner USING (true);
CREATE POLICY applied ON migration FOR SELECT TO keystead_app, keystead_system, keystead_owner USING (true);
CREATE POLICY applied_insert ON migration FOR INSERT TO keystead_owner WITH CHECK (true);

GRANT USAGE ON SCHEMA keystead TO keystead_app, keystead_system;
GRANT SELECT ON migration TO keystead_app, keystead_system;
GRANT SELECT ON member, integration, credential, idempotency, entry, token_set, connect_session, pending_authorization,
    revocation_batch, rotation TO keystead_app;
GRANT SELECT, INSERT ON installation, entry, log_tile TO keystead_system;
GRANT SELECT, UPDATE ON log_head TO keystead_system;
GRANT SELECT, INSERT, UPDATE ON tenant, tenant_key TO keystead_system;
GRANT SELECT, INSERT, DELETE ON tenant_name, idempotency, pending_authorization, credential TO keystead_system;
GRANT SELECT, INSERT, UPDATE, DELETE ON member, api_key, integration, limit_count, connect_session, revocation_batch,
    revocation, rotation, token_set, duty TO keystead_system;
