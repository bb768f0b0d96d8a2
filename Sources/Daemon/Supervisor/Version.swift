/// The version of this source, as `portferry --version`, the page and the metrics tell it.
package let portferryVersion = "0.1.0"
