// Which request gets which answer, hostile request targets included.

import Control
import TestSupport
import Testing

@Suite("Requests") struct RequestTests {
  static func code(_ target: String, isGetOrHead: Bool = true) throws -> Int {
    switch StatusRequest.parse(isGetOrHead: isGetOrHead, target: target, wantsHTML: false) {
    case .report(let request): request.response(try .sample()).code
    case .answer(let response): response.code
    }
  }

  @Test(
    "each route has its content type",
    arguments: [
      ("/", "text/plain; charset=utf-8"), ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
      ("/healthz", "text/plain; charset=utf-8"), ("/api/v1/status", "application/json"),
    ])
  func routes(target: String, contentType: String) throws {
    let response = answer(target, try .sample())
    #expect(response.code == 200)
    #expect(response.contentType == contentType)
    #expect(response.body.hasSuffix("\n"))
    #expect(answer(target + "?any=thing&x", try .sample()) == response)
  }

  @Test("the page is HTML for whoever accepts it, the other routes stay what they are") func html()
    throws
  {
    let page = answer("/", try .sample(), wantsHTML: true)
    #expect(page.contentType == "text/html; charset=utf-8")
    #expect(page.body.hasPrefix("<!doctype html>"))
    for target in ["/metrics", "/healthz", "/api/v1/status"] {
      #expect(answer(target, try .sample(), wantsHTML: true) == answer(target, try .sample()))
    }
  }

  @Test("a method that is neither GET nor HEAD is refused before the path is looked at")
  func methods() throws {
    #expect(try Self.code("/", isGetOrHead: false) == 405)
    #expect(try Self.code("/nowhere", isGetOrHead: false) == 405)
    #expect(
      try Self.code(String(repeating: "x", count: 9999), isGetOrHead: false) == 405)
  }

  @Test(
    "everything else is not found",
    arguments: [
      "", "*", "?", "//", "/.", "/..", "/%2e", "/metrics/", "/Metrics", "/metrics%00", "metrics",
      "/healthz\0", "/ ", "/\u{0}", "/api", "/api/v1", "/api/v1/status/", "/api/v2/status",
      "/../metrics", "//metrics", "#", "/#", "host:443", "?/metrics", "/\u{301}",
    ])
  func notFound(target: String) throws { #expect(try Self.code(target) == 404) }

  @Test("hostile text as a path is not found, as a query ignored", arguments: HostileText.samples)
  func hostile(text: String) throws {
    let code = try Self.code("/" + text)
    #expect(text.isEmpty ? code == 200 : code == 404 || code == 414)
    if text.utf8.count < 2000, text.unicodeScalars.allSatisfy(\.isASCII) {
      #expect(try Self.code("/healthz?" + text) == 200)
    }
  }

  @Test("a target's bound counts octets, query included") func targetBound() throws {
    let bound = StatusRequest.targetOctetsMax
    let longest = "/healthz?" + String(repeating: "q", count: bound - 9)
    #expect(try Self.code(longest) == 200)
    #expect(try Self.code(longest + "q") == 414)
    #expect(try Self.code("/" + String(repeating: "é", count: bound / 2)) == 414)
  }

  @Test(
    "the page refreshes itself when told a sensible interval",
    arguments: [
      ("/?refresh=2", 2), ("/?refresh=1", 1), ("/?refresh=3600", 3600), ("/?a=b&refresh=5", 5),
      ("/?refresh=7&refresh=8", 7), ("/", nil), ("/?refresh=0", nil), ("/?refresh=-1", nil),
      ("/?refresh=3601", nil), ("/?refresh=", nil), ("/?refresh", nil), ("/?refresh=2.5", nil),
      ("/?refresh=99999999999999999999", nil), ("/?refresh=2;url=http://x", nil),
      ("/?refresh=%32", nil), ("/?xrefresh=2", nil), ("/?refresh=\u{662}", nil),
    ] as [(String, Int?)])
  func refresh(target: String, seconds: Int?) throws {
    let body = answer(target, try .sample(), wantsHTML: true).body
    if let seconds {
      #expect(body.contains("<meta http-equiv=\"refresh\" content=\"\(seconds)\">"))
      #expect(body.contains("href=\"/\""))
    } else {
      #expect(!body.contains("http-equiv"))
      #expect(body.contains("href=\"/?refresh=2\""))
    }
  }
}
