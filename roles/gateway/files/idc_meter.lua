-- Copyright (c) 2026, The idc.llm founders
-- GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- Tokens per tenant and deployment: read from the "usage" object of answers, counted in memory that all workers share, kept on disk.
--
-- The count survives a reload (nginx keeps the memory) and a restart to within KEEP_S. Without a usage object (a stream of a client that
-- did not ask for one, or that left) each event counts as one token, and the audit line says "estimated".
local cjson = require("cjson.safe")

local M = {}
local counts = ngx.shared.idc_tokens
local KEEP_S = 5
local TAIL = 4096 -- bytes; a usage object stands at the end of an answer
local path -- of the file
local kept = 0 -- number of the last change on disk
local quotas = {} -- {tenant = {minute = tokens, day = tokens}}

local function window(tenant, name)
  local length = name == "minute" and 60 or 86400 -- days are UTC's
  local now = ngx.time()
  return "w|" .. tenant .. "|" .. name .. "|" .. math.floor(now / length), length - now % length, length
end

-- load(FILE): once for each start of nginx; a reload finds the memory as it was.
function M.load(file)
  path = file
  if counts:get("loaded") then
    return
  end
  counts:set("loaded", 1)
  local stream = io.open(path, "rb")
  local rows = stream and cjson.decode(stream:read("*a")) or {}
  if stream then
    stream:close()
  end
  for key, row in pairs(rows) do
    if not row[2] or row[2] > ngx.time() then
      counts:set(key, row[1], row[2] and row[2] - ngx.time() or 0)
    end
  end
end

-- What stands in memory as {key = {value, when it ends or nothing}}.
local function all()
  local rows = {}
  for _, key in ipairs(counts:get_keys(0)) do
    if key:find("|", 1, true) then
      local ttl = counts:ttl(key)
      rows[key] = { counts:get(key), ttl and ttl > 0 and ngx.time() + math.ceil(ttl) or nil }
    end
  end
  return rows
end

local function keep()
  local change = counts:get("change") or 0
  if change == kept then
    return
  end
  local beside = path .. "." .. ngx.worker.pid()
  local stream, wrong = io.open(beside, "wb")
  if stream then
    stream:write(cjson.encode(all()))
    stream:close()
    wrong = select(2, os.rename(beside, path))
  end
  if wrong then
    ngx.log(ngx.ERR, "the count of tokens cannot be kept: ", wrong)
  else
    kept = change
  end
end

-- start(): one worker writes the file, the one that ends too.
function M.start()
  if ngx.worker.id() == 0 then
    ngx.timer.every(KEEP_S, keep)
  end
end

-- bound(TENANT, QUOTA): it may have so many tokens, counted from now on.
function M.bound(tenant, quota)
  quotas[tenant] = quota
end

local function used(tenant, name, most)
  if most then
    local key, left = window(tenant, name)
    if (counts:get(key) or 0) >= most then
      return name, most, left
    end
  end
end

-- spent(TENANT): nil, or which window is used up, what it holds, and the seconds until the next.
function M.spent(tenant)
  local quota = quotas[tenant]
  if not quota then
    return nil
  end
  local name, most, left = used(tenant, "day", quota.day)
  if not name then
    name, most, left = used(tenant, "minute", quota.minute)
  end
  return name, most, left
end

-- see(): in the body filter, for each part of an answer.
function M.see()
  local part = ngx.arg[1]
  if part == "" then
    return
  end
  local ctx = ngx.ctx
  if not ctx.first then
    ngx.update_time()
    ctx.first = ngx.now()
    ctx.before, ctx.last, ctx.events = "", "", 0
  end
  local at = part:find("data: {", 1, true)
  while at do
    ctx.events = ctx.events + 1
    at = part:find("data: {", at + 7, true)
  end
  if #ctx.last > TAIL then
    ctx.before, ctx.last = ctx.last, part
  else
    ctx.last = ctx.last .. part
  end
end

local function blank(byte)
  return byte == 32 or byte == 10 or byte == 13 or byte == 9
end

-- opened(TEXT, AT): where the value after a name starts, past the colon.
local function opened(text, at)
  local byte = text:byte(at)
  while byte == 58 or blank(byte) do
    at = at + 1
    byte = text:byte(at)
  end
  return at, byte
end

-- whole(TEXT, NAME, FROM, TO): the whole number that stands there under a name, or nil.
local function whole(text, name, from, to)
  local _, at = text:find(name, from, true)
  if not at or at > to then
    return nil
  end
  local digit, value
  at, digit = opened(text, at + 1)
  while digit and digit >= 48 and digit <= 57 do
    value = (value or 0) * 10 + digit - 48
    at = at + 1
    digit = text:byte(at)
  end
  return value
end

-- usage(TEXT): tokens of the prompt and of the completion by the last whole usage object of a text, or nil.
-- By hand and without patterns, pairs or a decoder: LuaJIT compiles none of these, and this runs for every request.
local function usage(text)
  local from, to
  local _, at = text:find('"usage"', 1, true)
  while at do
    local start, byte = opened(text, at + 1)
    if byte == 123 then
      local last, depth = start, 0
      repeat
        if byte == 123 then
          depth = depth + 1
        elseif byte == 125 then
          depth = depth - 1
        end
        last = last + 1
        byte = text:byte(last)
      until depth == 0 or not byte
      if depth == 0 then
        from, to = start, last
      end
    end
    _, at = text:find('"usage"', at + 1, true)
  end
  if from then -- the Responses API says input and output
    return whole(text, '"prompt_tokens"', from, to) or whole(text, '"input_tokens"', from, to) or 0,
      whole(text, '"completion_tokens"', from, to) or whole(text, '"output_tokens"', from, to) or 0
  end
end

local function add(key, count, ttl)
  counts:incr(key, count, 0, ttl or 0)
end

local function spend(tenant, name, tokens)
  local key, left, length = window(tenant, name)
  add(key, tokens, left + length)
end

-- done(): in the log phase, before the audit line is written.
function M.done()
  local ctx, var = ngx.ctx, ngx.var
  local tenant, deployment = var.idc_tenant, var.idc_deployment
  if not ctx.first or deployment == "" then
    return
  end
  var.idc_ttft = string.format("%.3f", ctx.first - ngx.req.start_time())
  if ngx.status ~= 200 then
    return
  end
  local prompt, completion = usage(ctx.before .. ctx.last)
  if prompt then
    var.idc_tokens_from = "usage"
  else
    prompt, completion = 0, math.max(1, ctx.events)
    var.idc_tokens_from = "estimated"
  end
  var.idc_prompt_tokens, var.idc_completion_tokens = prompt, completion
  add("t|" .. tenant .. "|" .. deployment .. "|prompt", prompt)
  add("t|" .. tenant .. "|" .. deployment .. "|completion", completion)
  local quota = quotas[tenant]
  if quota then
    if quota.minute then
      spend(tenant, "minute", prompt + completion)
    end
    if quota.day then
      spend(tenant, "day", prompt + completion)
    end
  end
  counts:incr("change", 1, 0)
end

-- metrics(): https://prometheus.io/docs/instrumenting/exposition_formats/
function M.metrics()
  local lines = { "# HELP idc_llm_tokens_total Tokens that tenants sent and got.", "# TYPE idc_llm_tokens_total counter" }
  local rows = {}
  for key, row in pairs(all()) do
    local tenant, deployment, kind = key:match("^t|([^|]*)|([^|]*)|(.*)$")
    if tenant then
      rows[#rows + 1] = string.format('idc_llm_tokens_total{tenant="%s",deployment="%s",kind="%s"} %d', tenant, deployment, kind,
        row[1])
    end
  end
  table.sort(rows)
  for _, line in ipairs(rows) do
    lines[#lines + 1] = line
  end
  ngx.header["Content-Type"] = "text/plain; version=0.0.4"
  ngx.print(table.concat(lines, "\n"), "\n")
end

return M
