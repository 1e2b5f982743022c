// An upstream that counts what it was asked: the HTTP server of Node.
import { createServer } from "node:http";

const targets = [];
createServer((request, response) => {
  if (request.url === "/seen") return response.end(targets.join("\n"));
  request.resume();
  request.on("end", () => {
    targets.push(request.url);
    response.setHeader("X-Upstream", "node");
    response.end("ok");
  });
}).listen(Number(process.argv[2]), "127.0.0.1");
