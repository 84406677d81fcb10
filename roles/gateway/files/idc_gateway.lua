-- Copyright (c) 2026, The idc.llm founders
-- GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- Which deployment a request is for, whether its tenant may use it, and what limits it falls under. nginx does the rest.
-- Runs in nginx's rewrite phase, after the key was checked and before limit_req and limit_conn, which read the variables set here.
local cjson = require("cjson.safe")
local meter = require("idc_meter")

local M = {}
local ROOM = ("\n"):rep(256 * 1024) -- what the disk of the audit log must still take
local LOOK_S = 2
local LOGINS = 16 -- questions to the login that one address may have open
local PREFIX = 2048 -- bytes of a body by which an engine is chosen
local watching -- whether this configuration wants each request on record; what one before it left in the shared memory says nothing
local login -- asks who somebody is that shows no key; nothing where the site has no such login
local rights -- what _gateway.py made: {deployments = {name = {context}}, tenants = {name = {deployments, body_max, limits}}}

-- load PATH: read once per (re)load of nginx; a file that cannot be read keeps nginx from taking the configuration up.
function M.load(path)
  local file = assert(io.open(path, "rb"))
  rights = assert(cjson.decode(file:read("*a")))
  file:close()
  for name, tenant in pairs(rights.tenants) do
    meter.bound(name, tenant.tokens)
    tenant.may = {}
    for _, deployment in ipairs(tenant.deployments) do
      tenant.may[deployment] = true
    end
  end
end

-- ask LOGIN: idc_login.lua, or what stands for it.
function M.ask(given)
  login = given
end

-- watch FILE: one worker sees, again and again, that the disk of the audit log takes more; nothing is served while it does not.
function M.watch(file)
  watching = true
  local function look(leaving)
    if leaving then -- a worker of the configuration before has no say any more
      return
    end
    local stream, wrong = io.open(file, "wb")
    if stream then
      local _, at_write = stream:write(ROOM)
      local _, at_end = stream:close()
      wrong = at_write or at_end
      stream = io.open(file, "wb") -- the room is the log's
      if stream then
        stream:close()
      end
    end
    local before = ngx.shared.idc_tokens:get("audit")
    ngx.shared.idc_tokens:set("audit", wrong)
    if wrong ~= before then
      ngx.log(ngx.ERR, wrong and "the audit log cannot grow, nothing is served: " or "the audit log can grow again", wrong or "")
    end
  end
  if ngx.worker.id() == 0 then
    ngx.timer.at(0, look)
    ngx.timer.every(LOOK_S, look)
  end
end

-- An error in OpenAI's shape ends the request.
local function refuse(status, code, message, kind)
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  local fault = { message = message, type = kind or "invalid_request_error", param = cjson.null, code = code }
  ngx.print(cjson.encode({ error = fault }))
  return ngx.exit(ngx.HTTP_OK)
end

local function too_large(limit)
  return refuse(413, "request_too_large", "The request body is larger than " .. limit .. " bytes.")
end

local function body()
  ngx.req.read_body()
  local text = ngx.req.get_body_data()
  if text then
    return text
  end
  local name = ngx.req.get_body_file()
  if not name then
    return ""
  end
  local file = assert(io.open(name, "rb"))
  text = file:read("*a")
  file:close()
  return text
end

-- model(TEXT): the model that a body names; nil and what is wrong. A body that says "model" once is not decoded: should that stand
-- in some inner object, the engine it leads to is still one of the tenant's own, and refuses what it does not serve.
local function model(text)
  local _, at = text:find('"model"%s*:%s*')
  if at and not text:find('"model"', at + 1, true) then
    local name = text:match('^"([^"\\]*)"', at + 1)
    if name then
      return name
    end
  end
  local whole = cjson.decode(text)
  if type(whole) ~= "table" then
    return nil, "The request body is no JSON object."
  end
  if type(whole.model) ~= "string" then
    return nil, "The request names no model."
  end
  return whole.model
end

local function choose(tenant)
  local names = tenant.deployments
  if #names == 0 then
    return refuse(403, "model_not_allowed", "This key may use no model.", "permission_error")
  end
  if #names == 1 then
    return names[1]
  end
  local text = body()
  if tenant.body_max and #text > tenant.body_max then
    return too_large(tenant.body_max)
  end
  local wanted, wrong = model(text)
  if wanted and tenant.may[wanted] then
    return wanted
  end
  local list = table.concat(names, ", ")
  if not wanted then
    return refuse(400, "model_missing", wrong .. " This key may use: " .. list .. ".")
  end
  local shown = wanted:sub(1, 100)
  if rights.deployments[wanted] then
    return refuse(403, "model_not_allowed", "This key may not use the model `" .. shown .. "`. It may use: " .. list .. ".",
      "permission_error")
  end
  return refuse(404, "model_not_found", "The model `" .. shown .. "` does not exist. This key may use: " .. list .. ".")
end

-- identify(KNOWN): the tenant of who shows the company's login; known: who the key says it is, or "".
local function identify(known)
  local var = ngx.var
  local authorization, token = var.http_authorization, var.http_x_identity_token
  if known == "" and not authorization then
    return refuse(401, "invalid_api_key", "No API key or login was given.", "authentication_error")
  end
  local address = "login " .. var.remote_addr
  local found
  if (ngx.shared.idc_tokens:incr(address, 1, 0, 60) or 0) > LOGINS then
    found = { status = 429, code = "rate_limit_exceeded", message = "Too many logins at once from this address.", retry = 1, user = "" }
  elseif login then
    found = login.who(authorization, token, known)
  else -- a configuration that knows no login, and a tenant that must show one
    found = { status = 503, code = "login_unavailable", message = "There is no login to ask.", user = "" }
  end
  ngx.shared.idc_tokens:incr(address, -1, 0, 60)
  var.idc_user = found.user
  local tenant = rights.tenants[found.tenant or ""]
  if tenant then
    var.idc_by_login = found.tenant
    return tenant
  end
  if found.tenant then -- the login knows a tenant that this configuration does not, or not any more
    found = { status = 503, code = "login_unavailable", message = "This service is being changed. Please try again." }
  end
  if found.status == 429 then
    ngx.header["Retry-After"] = found.retry
  end
  return refuse(found.status, found.code, found.message, found.status == 503 and "server_error" or "authentication_error")
end

-- admit(): the tenant, if it shows what it must; or the request is over.
local function admit()
  local var = ngx.var
  if watching and ngx.shared.idc_tokens:get("audit") then
    return refuse(503, "audit_unavailable", "No request can be put on record now. Please try again.", "server_error")
  end
  local tenant = rights.tenants[var.idc_tenant]
  if not tenant or tenant.login then
    tenant = identify(tenant and var.idc_tenant or "")
  end
  local wanted = tenant.certificates
  if wanted and not (var.ssl_client_verify == "SUCCESS" and wanted[var.ssl_client_s_dn]) then
    return refuse(401, "client_certificate_required", "This key counts only together with a certificate of its tenant.",
      "authentication_error")
  end
  return tenant
end

local function session(affinity)
  local named = affinity and affinity.variable and ngx.var[affinity.variable]
  return named ~= "" and named
end

-- tried(NAME, CANARIES): the canary that gets this request for a deployment, if one does. A session stays where it began.
local function tried(name, canaries)
  local point = ngx.crc32_short(session(rights.deployments[name].affinity) or ngx.var.request_id) % 100
  for _, canary in ipairs(canaries) do
    if point < canary[2] then
      return canary[1]
    end
  end
end

-- bind(VAR, LIMITS): a tenant's rate and number at once, and its deployment's: four at most. Without a loop, because LuaJIT does not
-- compile a function that turns one, and this runs for every request.
local function bind(var, limits)
  local one, two, three, four = limits[1], limits[2], limits[3], limits[4]
  if one then
    var[one[1]] = one[2]
  end
  if two then
    var[two[1]] = two[2]
  end
  if three then
    var[three[1]] = three[2]
  end
  if four then
    var[four[1]] = four[2]
  end
end

-- route(): chooses the deployment and sets $idc_deployment, $idc_retry and a variable for each limit.
function M.route()
  local var = ngx.var
  local tenant = admit()
  if tenant.body_max and (tonumber(var.http_content_length) or 0) > tenant.body_max then
    return too_large(tenant.body_max)
  end
  local window, most, left = meter.spent(var.idc_tenant)
  if window then
    ngx.header["Retry-After"] = left
    return refuse(429, "token_quota_exceeded", "This key's tokens per " .. window .. " (" .. most
      .. ") are used up. Please come again in " .. left .. " s.", "rate_limit_error")
  end
  local name = choose(tenant)
  local answers = tenant.canaries and tenant.canaries[name] and tried(name, tenant.canaries[name]) or name
  var.idc_deployment = answers
  local affinity = rights.deployments[name].affinity
  if answers ~= name then -- behind its engines stand those of what was asked for
    var.idc_pool = "tried"
  elseif affinity then -- without a session any engine will do
    var.idc_pool = "sticky"
    var.idc_affinity = session(affinity) or (affinity.by == "prefix" and ngx.md5(body():sub(1, PREFIX))) or var.request_id
  end
  var.idc_retry = tenant.retry
  bind(var, tenant.limits[name])
end

-- models(): the models that this key may use, as OpenAI lists them: https://platform.openai.com/docs/api-reference/models/list
function M.models()
  local rows = {}
  for _, name in ipairs(admit().deployments) do
    rows[#rows + 1] = { id = name, object = "model", created = 0, owned_by = "idc.llm", root = name, parent = cjson.null,
      max_model_len = rights.deployments[name].context }
  end
  setmetatable(rows, cjson.array_mt)
  ngx.header["Content-Type"] = "application/json"
  ngx.print(cjson.encode({ object = "list", data = rows }))
end

return M
