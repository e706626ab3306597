// Package archtest holds who may import whom, and the tests that keep it so.
// Imports run downhill along the data; ingest and analysis meet only in the
// store. ARCHITECTURE.md quotes the table and says why.
package archtest

const module = "serin.dev/serin"

// rule says what of this module a package may import.
type rule struct {
	of           string
	may          []string
	standardOnly bool // and nothing from outside of the standard library
}

var table = []rule{
	{of: "cmd/serin", may: []string{"alerting/actuate", "alerting/alert", "alerting/alertmanager", "alerting/email", "alerting/pagerduty", "alerting/policy", "alerting/protection", "alerting/slack", "alerting/webhook", "analysis", "analysis/canary", "analysis/evalue", "analysis/exposure", "analysis/judge", "analysis/lab", "analysis/openslo", "analysis/policyfile", "analysis/slo", "analysis/verdict", "analysis/yamlfile", "ingest", "ingest/dialect", "ingest/lane", "internal/api", "internal/bench/corpus", "internal/bench/load", "internal/bench/verdicts", "internal/event", "internal/plot", "internal/store/journal", "internal/store/segment", "internal/tenant"}},
	{of: "alerting/actuate", may: []string{"alerting/webhook", "analysis/verdict"}},
	{of: "alerting/alert", may: []string{"analysis/verdict"}, standardOnly: true},
	{of: "alerting/alertmanager", may: []string{"alerting/alert", "analysis/verdict"}, standardOnly: true},
	{of: "alerting/email", may: []string{"alerting/alert", "alerting/webhook"}},
	{of: "alerting/gate", may: []string{"analysis/judge", "analysis/verdict"}},
	{of: "alerting/pagerduty", may: []string{"alerting/alert", "alerting/webhook", "analysis/verdict"}},
	{of: "alerting/policy", may: []string{"analysis/verdict"}},
	{of: "alerting/protection", may: []string{"alerting/actuate", "analysis/verdict"}, standardOnly: true},
	{of: "alerting/protection/githubtest", standardOnly: true},
	{of: "alerting/slack", may: []string{"alerting/alert", "alerting/webhook"}},
	{of: "alerting/webhook", may: []string{"analysis/verdict"}},
	{of: "internal/api", may: []string{"alerting/alert", "alerting/gate", "analysis", "analysis/canary", "analysis/verdict", "internal/tenant"}},
	{of: "analysis", may: []string{"analysis/canary", "analysis/cell", "analysis/exposure", "analysis/session", "analysis/slo", "analysis/verdict", "internal/event",
		"internal/store/batch", "internal/store/journal", "internal/store/segment", "internal/tenant"}},
	{of: "analysis/canary", may: []string{"analysis/evalue", "analysis/exposure", "analysis/session", "analysis/sketch", "analysis/verdict", "internal/event", "internal/store/batch"}},
	{of: "analysis/lab", may: []string{"analysis/canary", "analysis/evalue", "analysis/exposure", "analysis/judge", "analysis/session", "analysis/verdict", "internal/event", "internal/store/batch", "internal/tenant"}},
	{of: "analysis/policyfile", may: []string{"analysis/canary", "analysis/yamlfile"}},
	{of: "analysis/openslo", may: []string{"analysis/session", "analysis/slo", "analysis/verdict", "analysis/yamlfile", "internal/event"}},
	{of: "analysis/slo", may: []string{"analysis/evalue", "analysis/session", "analysis/verdict", "internal/event", "internal/store/batch"}},
	{of: "analysis/yamlfile"},
	{of: "analysis/cell", may: []string{"analysis/session", "analysis/sketch", "internal/event", "internal/store/batch"}},
	{of: "analysis/session", may: []string{"internal/event", "internal/store/batch"}},
	{of: "analysis/exposure", may: []string{"analysis/evalue", "analysis/verdict"}, standardOnly: true},
	{of: "analysis/verdict", standardOnly: true},
	{of: "analysis/evalue", standardOnly: true},
	{of: "analysis/judge", standardOnly: true},
	{of: "analysis/sketch", standardOnly: true},
	{of: "ingest", may: []string{"ingest/admit", "ingest/beacon", "ingest/datadog", "ingest/dialect", "ingest/elastic", "ingest/faro", "ingest/intern", "ingest/lane", "ingest/lot", "ingest/otlp",
		"ingest/report", "ingest/sentry", "ingest/taste", "internal/event", "internal/store/batch", "internal/tenant"}},
	{of: "ingest/admit", may: []string{"internal/event", "internal/tenant"}},
	{of: "ingest/datadog", may: []string{"ingest/dialect", "internal/event"}},
	{of: "ingest/elastic", may: []string{"ingest/dialect", "internal/event"}},
	{of: "ingest/faro", may: []string{"ingest/dialect", "ingest/otlp", "internal/event"}},
	{of: "ingest/otlp", may: []string{"ingest/dialect", "ingest/intern", "internal/event"}},
	{of: "ingest/report", may: []string{"ingest/dialect", "internal/event"}},
	{of: "ingest/sentry", may: []string{"ingest/dialect", "internal/event"}},
	{of: "ingest/lane", may: []string{"ingest/lot"}, standardOnly: true},
	{of: "ingest/lot", standardOnly: true},
	{of: "ingest/taste"},
	{of: "ingest/dialect", may: []string{"ingest/intern", "internal/event"}},
	{of: "ingest/beacon", may: []string{"ingest/intern", "internal/event"}, standardOnly: true},
	{of: "ingest/intern", may: []string{"internal/event"}, standardOnly: true},
	{of: "internal/store/segment", may: []string{"internal/event", "internal/store/batch", "internal/tenant"}},
	{of: "internal/store/journal"},
	{of: "internal/store/batch", may: []string{"internal/event", "internal/tenant"}},
	{of: "internal/event", standardOnly: true},
	{of: "internal/plot", standardOnly: true},
	{of: "internal/tenant", standardOnly: true},
	{of: "internal/bench/ingest", may: []string{"internal/bench/load", "internal/bench/process"}},
	{of: "internal/bench/fuzz", may: []string{"internal/bench/corpus", "internal/bench/mutate", "internal/bench/process", "internal/bench/wire", "internal/store/batch", "internal/store/segment"}},
	{of: "internal/bench/load", may: []string{"internal/bench/corpus", "internal/bench/mutate", "internal/bench/process", "internal/bench/wire"}},
	{of: "internal/bench/delivery", may: []string{"internal/bench/verdicts"}},
	{of: "internal/bench/verdicts", may: []string{"internal/bench/process"}},
	{of: "internal/bench/corpus"},
	{of: "internal/bench/mutate"},
	{of: "internal/bench/pgo"},
	{of: "internal/bench/process", standardOnly: true},
	{of: "internal/bench/wire", standardOnly: true},
	{of: "internal/archtest", standardOnly: true},
}

// limits say who alone may import something from outside.
var limits = []struct {
	imported string
	to       []string
}{
	{"flag", []string{"cmd/serin", "internal/bench/delivery", "internal/bench/ingest", "internal/bench/fuzz"}},
	{"os", []string{"cmd/serin", "ingest/lot", "internal/store/...", "internal/archtest", "internal/bench/..."}},
	{"net/http", []string{"cmd/serin", "internal/api", "ingest", "alerting/actuate", "alerting/alertmanager", "alerting/pagerduty", "alerting/protection/...", "alerting/slack", "alerting/webhook", "internal/bench/..."}},
	{"github.com/apache/arrow/go/v17/...", []string{"internal/store/...", "analysis/cell"}},
	{"github.com/gorilla/websocket", []string{"ingest", "internal/api", "internal/bench/..."}},
	{"github.com/nats-io/...", []string{"internal/store/journal"}},
	{"github.com/oschwald/...", []string{"cmd/serin"}},
	{"math/rand/v2", []string{"cmd/serin", "analysis/lab", "alerting/webhook", "internal/store/journal", "internal/bench/..."}},
}

// topLevel are the folders of the project.
var topLevel = []string{"cmd", "ingest", "analysis", "alerting", "sdk-js", "grafana-plugin", "internal", "docs", "bin", "serin-data"}
