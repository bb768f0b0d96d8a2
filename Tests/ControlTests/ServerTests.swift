// The HTTP server at its control socket: answers, bounds, and the socket's file.

import Configuration
import Control
import Glibc
import Logging
import Testing
import Wire

@Suite("Control socket", .timeLimit(.minutes(30))) struct ServerTests {
  static let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  /// Runs `body` with a server that answers from a sample report.
  static func withServer(
    source: @escaping StatusSource = { take in
      if let report = try? StatusReport.sample() { take(report) }
    },
    _ body: (_ path: String) async throws -> Void
  ) async throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/control.sock"
    let server = try await ControlServer.start(
      ControlEndpoints(status: nil, control: path, owner: nil), source: source, log: log)
    do { try await body(path) } catch {
      await server.stop()
      throw error
    }
    await server.stop()
    #expect(TemporaryDirectory.mode(path) == nil)
  }

  /// Sends a whole request and reads until the server closes.
  static func exchange(_ path: String, _ request: String) throws -> String? {
    let client = try #require(Client(path: path))
    client.send(request)
    return client.readToEnd()
  }

  static func answer(_ path: String, _ request: String) throws -> Answer {
    let said = try #require(try exchange(path, request))
    return try #require(Answer(said))
  }

  static let close = "Host: x\r\nConnection: close\r\n\r\n"

  @Test("routes answer with what the routes say, and fields that keep browsers harmless")
  func routes() async throws {
    try await Self.withServer { path in
      let health = try Self.answer(path, "GET /healthz HTTP/1.1\r\n" + Self.close)
      #expect(health.code == 200 && health.body == "ok\n")
      #expect(health.fields["content-length"] == "3")
      #expect(health.fields["cache-control"] == "no-store")
      #expect(health.fields["x-content-type-options"] == "nosniff")
      #expect(health.fields["content-security-policy"]?.hasPrefix("default-src 'none'") == true)
      let html = "GET / HTTP/1.1\r\nAccept: text/html,*/*\r\n"
      #expect(try Self.answer(path, html + Self.close).body.hasPrefix("<!doctype html>"))
      let plain = "GET / HTTP/1.1\r\nAccept: */*\r\n"
      #expect(try Self.answer(path, plain + Self.close).body.hasPrefix("Portferry on ferry0"))
      #expect(try Self.answer(path, "GET /nowhere HTTP/1.1\r\n" + Self.close).code == 404)
    }
  }

  @Test("HEAD has the fields of GET and no body") func head() async throws {
    try await Self.withServer { path in
      let head = try Self.answer(path, "HEAD /metrics HTTP/1.1\r\n" + Self.close)
      let get = try Self.answer(path, "GET /metrics HTTP/1.1\r\n" + Self.close)
      #expect(head.code == 200 && head.body.isEmpty && !get.body.isEmpty)
      #expect(head.fields["content-length"] == get.fields["content-length"])
      #expect(get.fields["content-length"] == "\(get.body.utf8.count)")
    }
  }

  @Test("other methods and bodies are refused, and a body ends the connection") func refusals()
    async throws
  {
    try await Self.withServer { path in
      for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let refusal = try Self.answer(path, "\(method) / HTTP/1.1\r\n" + Self.close)
        #expect(refusal.code == 405 && refusal.fields["allow"] == "GET, HEAD", "\(method)")
      }
      let body = "Host: x\r\nContent-Length: 3\r\n\r\nabc"
      #expect(try Self.answer(path, "GET / HTTP/1.1\r\n" + body).code == 413)
      #expect(try Self.answer(path, "POST / HTTP/1.1\r\n" + body).code == 405)
      let chunked = "Host: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
      #expect(try Self.answer(path, "GET / HTTP/1.1\r\n" + chunked).code == 413)
    }
  }

  @Test("a connection carries one request after another, and several sent ahead in their order")
  func keepAlive() async throws {
    try await Self.withServer { path in
      let client = try #require(Client(path: path))
      for target in ["/healthz", "/metrics", "/nowhere"] {
        client.send("GET \(target) HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(client.readAnswer()?.code == (target == "/nowhere" ? 404 : 200))
      }
      client.send(
        "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nHEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
          + "GET /nowhere HTTP/1.1\r\n" + Self.close)
      #expect(client.readAnswer()?.body == "ok\n")
      #expect(client.readAnswer(hasBody: false)?.code == 200)
      #expect(client.readAnswer()?.code == 404)
      #expect(client.readToEnd() == "")
    }
  }

  @Test("HTTP/1.0 gets its answer and the end") func oldHTTP() async throws {
    try await Self.withServer { path in
      let answer = try Self.answer(path, "GET /healthz HTTP/1.0\r\n\r\n")
      #expect(answer.body == "ok\n")
    }
  }

  @Test(
    "what is no request is answered 400 or not at all, and the connection ends",
    arguments: [
      "\r\n\r\nnonsense\r\n\r\n", "GET\r\n\r\n", "\u{16}\u{3}\u{1}TLS",
      "BREW / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
      "GET / HTTP/1.1\r\nHost x\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
      "GET /\r\nX: " + String(repeating: "x", count: 20_000),
      "GET / HTTP/1.1\r\n" + (0..<100).map { "X\($0): y\r\n" }.joined() + "\r\n",
      "GET / HTTP/1.1\r\nX: " + String(repeating: "x", count: 9_000) + "\r\n\r\n",
    ])
  func nonsense(text: String) async throws {
    try await Self.withServer { path in
      let client = try #require(Client(path: path))
      client.send(text)
      client.finishSending()
      let said = try #require(client.readToEnd())
      #expect(said.isEmpty || (Answer(said)?.code ?? 0) / 100 == 4, "\(said.prefix(80))")
      #expect(try Self.answer(path, "GET /healthz HTTP/1.1\r\n" + Self.close).code == 200)
    }
  }

  @Test("workers that do not answer cost a 503, and later requests are served anew")
  func silentWorkers() async throws {
    let silent: StatusSource = { _ in }
    try await Self.withServer(source: silent) { path in
      let started = ContinuousClock.now
      let unavailable = try Self.answer(path, "GET /metrics HTTP/1.1\r\n" + Self.close)
      #expect(unavailable.code == 503)
      #expect(ContinuousClock.now - started >= .milliseconds(1900))
      #expect(try Self.answer(path, "GET /nowhere HTTP/1.1\r\n" + Self.close).code == 404)
    }
  }

  @Test("connections beyond the bound are closed unanswered until a place is free")
  func connectionBound() async throws {
    try await Self.withServer { path in
      // Each has been served once, so that the server has certainly taken it in.
      func served() -> Client? {
        guard let client = Client(path: path) else { return nil }
        client.send("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        return client.readAnswer() == nil ? nil : client
      }
      var crowd: [Client] = []
      for _ in 0..<64 { crowd.append(try #require(served())) }
      let late = try #require(Client(path: path))
      late.send("GET /healthz HTTP/1.1\r\n" + Self.close)
      #expect(late.readToEnd() == "")
      crowd.removeLast()
      var isServed = false
      for _ in 0..<3_000 where !isServed {
        isServed = served() != nil
        if !isServed { try await Task.sleep(for: .milliseconds(20)) }
      }
      #expect(isServed)
    }
  }
}
