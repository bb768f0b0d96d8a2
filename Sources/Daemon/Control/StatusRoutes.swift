// Which request gets which answer; no socket, no clock.
//
// Everything here reads and nothing changes the daemon, so GET and HEAD are all there is. A method
// other than those is refused before the path is looked at. The query string matters to the page
// alone and is otherwise ignored.

package struct StatusRequest: Equatable, Sendable {
  enum Path: String, CaseIterable {
    case page = "/"
    case metrics = "/metrics"
    case health = "/healthz"
    case status = "/api/v1/status"
  }

  var path: Path
  var refreshSeconds: Int?
  /// The page as HTML; otherwise as text for a terminal.
  var wantsHTML = false
}

package struct StatusResponse: Equatable, Sendable {
  package var code: Int
  package var contentType: String
  package var body: String

  static func plain(_ code: Int, _ sentence: String) -> StatusResponse {
    StatusResponse(code: code, contentType: "text/plain; charset=utf-8", body: sentence + "\n")
  }

  /// The workers did not answer in time.
  static let unavailable = plain(503, "the daemon does not answer at present")
  static let notFound = plain(
    404, "not found; here are /, /metrics, /healthz and /api/v1/status")
  static let methodNotAllowed = plain(405, "only GET and HEAD are served here")
  static let targetTooLong = plain(414, "the request target is too long")
  static let bodyRefused = plain(413, "requests here have no body")
}

extension StatusRequest {
  /// Longest request target that is looked at, in octets.
  package static let targetOctetsMax = 2048

  /// What is asked for, or the answer that needs no report.
  package enum Outcome: Equatable {
    case report(StatusRequest)
    case answer(StatusResponse)
  }

  /// - Parameters:
  ///   - target: the request target in origin form (RFC 9112 §3.2.1).
  ///   - wantsHTML: whether an Accept field names text/html, as every browser's does.
  package static func parse(isGetOrHead: Bool, target: String, wantsHTML: Bool) -> Outcome {
    guard isGetOrHead else { return .answer(.methodNotAllowed) }
    guard target.utf8.count <= targetOctetsMax else { return .answer(.targetTooLong) }
    let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    guard let path = Path(rawValue: String(parts[0])) else { return .answer(.notFound) }
    let refresh = parts.count > 1 ? refreshSeconds(query: parts[1]) : nil
    return .report(StatusRequest(path: path, refreshSeconds: refresh, wantsHTML: wantsHTML))
  }

  package func response(_ report: StatusReport) -> StatusResponse {
    switch path {
    case .page where !wantsHTML:
      StatusResponse(
        code: 200, contentType: "text/plain; charset=utf-8", body: StatusText.text(report))
    case .page:
      StatusResponse(
        code: 200, contentType: "text/html; charset=utf-8",
        body: StatusPage.html(report, refreshSeconds: refreshSeconds))
    case .metrics:
      StatusResponse(
        code: 200, contentType: StatusReport.metricsContentType, body: report.metrics)
    case .health: .plain(200, "ok")
    case .status:
      StatusResponse(code: 200, contentType: "application/json", body: report.json)
    }
  }

  private static func refreshSeconds(query: Substring) -> Int? {
    for pair in query.split(separator: "&") where pair.hasPrefix("refresh=") {
      guard let seconds = Int(pair.dropFirst("refresh=".count)) else { return nil }
      return (1...StatusPage.refreshSecondsMax).contains(seconds) ? seconds : nil
    }
    return nil
  }
}
