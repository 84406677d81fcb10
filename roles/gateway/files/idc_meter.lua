-- Copyright (c) 2026, The idc.llm founders
-- GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- Tokens per tenant and deployment: read from the "usage" object of answers, counted in memory that all workers share, kept on disk.
--
-- The count survives a reload (nginx keeps the memory) and a restart to within KEEP_S. Without a usage object (a stream of a client that
-- did not ask for one, or that left) each event counts as one token, and the audit line says "estimated".
local cjson = require("cjson.safe")
local context = require("resty.core.ctx").get_ctx_table -- what ngx.ctx is, without the way there

local M = {}
local counts = ngx.shared.idc_tokens
local arg, find, floor, format, sub = ngx.arg, string.find, math.floor, string.format, string.sub
local KEEP_S = 5
local TAIL = 4096 -- bytes; a usage object stands at the end of an answer
local path -- of the file
local kept = 0 -- all tokens together that stand on disk
local quotas = {} -- {tenant = {minute = tokens, day = tokens}}
local names = {} -- {tenant = {deployment = names of its counters in memory}}

local function window(tenant, name)
  local length = name == "minute" and 60 or 86400 -- days are UTC's
  local now = ngx.time()
  return "w|" .. tenant .. "|" .. name .. "|" .. floor(now / length), length - now % length, length
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

-- What stands in memory as {key = {value, when it ends or nothing}}, and all tokens ever counted together.
local function all()
  local rows, total = {}, 0
  for _, key in ipairs(counts:get_keys(0)) do
    local kind = key:match("^([tw])|")
    if kind then
      local value, ttl = counts:get(key) or 0, counts:ttl(key)
      rows[key] = { value, ttl and ttl > 0 and ngx.time() + math.ceil(ttl) or nil }
      total = kind == "t" and total + value or total
    end
  end
  return rows, total
end

local function keep()
  local rows, total = all()
  if total == kept then
    return
  end
  local beside = path .. "." .. ngx.worker.pid()
  local stream, wrong = io.open(beside, "wb")
  if stream then
    local _, at_write = stream:write(cjson.encode(rows))
    local _, at_end = stream:close()
    wrong = at_write or at_end -- a disk that is full: what was kept before stays
    if not wrong then
      wrong = select(2, os.rename(beside, path))
    end
  end
  if wrong then
    ngx.log(ngx.ERR, "the count of tokens cannot be kept: ", wrong)
  else
    kept = total
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

-- more(PART, AT): how many events of a stream begin from there on. Apart, because LuaJIT does not compile a function that turns a loop.
local function more(part, at)
  local count = 0
  while at do
    count = count + 1
    at = find(part, "data: {", at + 7, true)
  end
  return count
end

local function events(part)
  local at = find(part, "data: {", 1, true)
  if not at then
    return 0
  end
  at = find(part, "data: {", at + 7, true)
  return at and 1 + more(part, at) or 1
end

-- see(): in the body filter, for each part of an answer.
function M.see()
  local part = arg[1]
  if part == "" then
    return
  end
  local ctx = context()
  local last = ctx.last
  if not last then
    ngx.update_time()
    ctx.first, ctx.before, ctx.last, ctx.events = ngx.now(), "", part, events(part)
    return
  end
  ctx.events = ctx.events + events(part)
  if #last > TAIL then
    ctx.before, ctx.last = last, part
  else
    ctx.last = last .. part
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
  local _, at = find(text, name, from, true)
  if not at or at > to then
    return nil
  end
  at = find(text, ":", at + 1, true)
  if not at or at > to then
    return nil
  end
  local comma, brace = find(text, ",", at + 1, true), find(text, "}", at + 1, true)
  local stop = comma and brace and comma > brace and brace or comma or brace
  local value = stop and stop <= to + 1 and tonumber(sub(text, at + 1, stop - 1))
  return value and value >= 0 and value == floor(value) and value or nil
end

-- last_usage(TEXT): tokens of the prompt and of the completion by the last whole usage object of a text, or nil.
local function last_usage(text)
  local from, to
  local _, at = find(text, '"usage"', 1, true)
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
    _, at = find(text, '"usage"', at + 1, true)
  end
  if from then -- the Responses API says input and output
    return whole(text, '"prompt_tokens"', from, to) or whole(text, '"input_tokens"', from, to) or 0,
      whole(text, '"completion_tokens"', from, to) or whole(text, '"output_tokens"', from, to) or 0
  end
end

-- usage(TEXT): the same. What engines write, one object with its numbers in front, is read without a loop, a pattern, pairs or a
-- decoder: LuaJIT compiles it then, and this runs for every request.
local function usage(text)
  local _, at = find(text, '"usage":', 1, true)
  if at and not find(text, '"usage"', at + 1, true) then
    local byte = text:byte(at + 1)
    if byte == 123 or byte == 32 and text:byte(at + 2) == 123 then
      local to = find(text, "}", at + 1, true)
      if to then
        local prompt, completion = whole(text, '"prompt_tokens"', at, to), whole(text, '"completion_tokens"', at, to)
        if prompt and completion then
          return prompt, completion
        end
      end
    end
  end
  return last_usage(text)
end

-- counters(TENANT, DEPLOYMENT): the names of its two counters in memory, made once.
local function counters(tenant, deployment)
  local row = names[tenant]
  if not row then
    row = {}
    names[tenant] = row
  end
  local pair = row[deployment]
  if not pair then
    pair = { prompt = "t|" .. tenant .. "|" .. deployment .. "|prompt", completion = "t|" .. tenant .. "|" .. deployment .. "|completion" }
    row[deployment] = pair
  end
  return pair
end

local function spend(tenant, name, tokens)
  local key, left, length = window(tenant, name)
  counts:incr(key, tokens, 0, left + length)
end

-- done(): in the log phase, before the audit line is written.
function M.done()
  local ctx, var = context(), ngx.var
  local first = ctx.first
  if not first then
    return
  end
  local tenant, deployment = var.idc_tenant, var.idc_deployment
  if deployment == "" then
    return
  end
  var.idc_ttft = format("%.3f", first - ngx.req.start_time())
  if ngx.status ~= 200 then
    return
  end
  local before, last = ctx.before, ctx.last
  local prompt, completion = usage(before == "" and last or before .. last)
  if prompt then
    var.idc_tokens_from = "usage"
  else
    prompt, completion = 0, math.max(1, ctx.events)
    var.idc_tokens_from = "estimated"
  end
  var.idc_prompt_tokens, var.idc_completion_tokens = prompt, completion
  local pair = counters(tenant, deployment)
  counts:incr(pair.prompt, prompt, 0)
  counts:incr(pair.completion, completion, 0)
  local quota = quotas[tenant]
  if quota then
    if quota.minute then
      spend(tenant, "minute", prompt + completion)
    end
    if quota.day then
      spend(tenant, "day", prompt + completion)
    end
  end
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
