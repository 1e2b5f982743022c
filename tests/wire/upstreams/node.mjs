// An upstream that counts what it was asked: the HTTP server of Node.
import { createServer } from "node:http";
import { posix } from "node:path";

// What a path is to handlers: those that read it as a URL, and those that cut the query off (Express, send).
const readings = [(target) => new URL(target, "http://host").pathname, (target) => target.split("?")[0]];

function resolved(target) {
  return readings.flatMap((reading) => {
    try {
      return [encodeURI(posix.normalize(decodeURIComponent(reading(target))))];
    } catch {
      return []; // They answer 400.
    }
  });
}

const targets = [];
createServer((request, response) => {
  if (request.url === "/seen") return response.end(targets.join("\n"));
  request.resume();
  request.on("end", () => {
    targets.push(request.url);
    response.setHeader("X-Upstream", "node");
    response.setHeader("X-Target", request.url);
    response.setHeader("X-Resolved", resolved(request.url).join(", "));
    response.end("ok");
  });
}).listen(Number(process.argv[2]), "127.0.0.1");
