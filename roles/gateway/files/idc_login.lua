-- Copyright (c) 2026, The idc.llm founders
-- GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- Asks _agent_login.py who somebody is: a line of JSON each way over a Unix socket, one connection for each question.
local cjson = require("cjson.safe")

local M = {}
local CONNECT_MS, ANSWER_MS = 2000, 30000 -- a directory of several servers may need a while to say no
local UNAVAILABLE = { status = 503, code = "login_unavailable", message = "The login cannot be asked now. Please try again.",
  user = "" }
local socket

-- load PATH: of the Unix socket.
function M.load(path)
  socket = "unix:" .. path
end

-- who(AUTHORIZATION, TOKEN, TENANT): {tenant, user}, or {status, code, message, retry, user}. tenant: who a key says it is, or "".
function M.who(authorization, token, tenant)
  local link = ngx.socket.tcp()
  link:settimeouts(CONNECT_MS, CONNECT_MS, ANSWER_MS)
  local ok, wrong = link:connect(socket)
  local line
  if ok then
    ok, wrong = link:send(cjson.encode({ authorization = authorization or "", token = token or "", tenant = tenant }) .. "\n")
  end
  if ok then
    line, wrong = link:receive("*l")
    link:close()
  end
  local found = line and cjson.decode(line)
  if type(found) ~= "table" then
    ngx.log(ngx.ERR, "the login does not answer: ", wrong)
    return UNAVAILABLE
  end
  return found
end

return M
