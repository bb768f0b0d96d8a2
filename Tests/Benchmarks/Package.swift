// swift-tools-version: 6.2
import PackageDescription

// The time of the hot paths, measured with ordo-one/benchmark. A package of its own, so that the program
// depends on no benchmark: Core's targets are compiled here once more, through a link to their folder.
//
//     swift package --package-path Tests/Benchmarks benchmark
//
// Times are recorded, never judged. What may not happen per packet is counted by `Gate`, a target of
// the main package, for the counts of allocations that this library offers read 0 on Linux without
// its interposer.

let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

func core(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(name: name, dependencies: dependencies, path: "Core/\(name)", swiftSettings: settings)
}

let package = Package(
  name: "benchmarks",
  dependencies: [
    .package(url: "https://github.com/ordo-one/benchmark", from: "1.38.1", traits: [])
  ],
  targets: [
    core("Primitives"),
    core("Wire", ["Primitives"]),
    core("TOML"),
    core("Configuration", ["TOML", "Wire", "Primitives"]),
    core("SocketTable", ["Wire", "Primitives"]),
    core("TCP", ["Wire", "Primitives"]),
    core("UDP", ["Wire", "Primitives"]),
    core("ICMP", ["Wire", "Primitives"]),
    core("Fragments", ["Wire", "Primitives"]),
    core("Balancing", ["Configuration", "Wire", "Primitives"]),
    core("Relay", ["Wire", "Primitives"]),
    core("Steering", ["Wire"]),
    core(
      "Stack",
      [
        "Balancing", "Configuration", "Fragments", "ICMP", "Primitives", "Relay", "SocketTable",
        "Steering", "TCP", "UDP", "Wire",
      ]),
    .target(
      name: "HotPaths",
      dependencies: ["Configuration", "Primitives", "SocketTable", "Stack", "TCP", "Wire"],
      path: "HotPaths", swiftSettings: settings),
    .executableTarget(
      name: "HotPathBenchmarks",
      dependencies: ["HotPaths", .product(name: "Benchmark", package: "benchmark")],
      path: "Benchmarks/HotPaths", swiftSettings: settings,
      plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")]),
  ]
)
