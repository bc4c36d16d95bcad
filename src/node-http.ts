/**
 * `node:http`. An import of it makes a name of everything that it has, WebSocket among them, for which Node loads an HTTP
 * client of 20 ms: that is not done here.
 */
export const { Agent, createServer, request } = process.getBuiltinModule('node:http')
