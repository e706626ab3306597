package analysis

import (
	"fmt"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"serin.dev/serin/analysis/verdict"
)

// metricSet holds the engine's own metrics.
type metricSet struct {
	events, duplicates *metrics.Counter
	seals              *metrics.Summary
	position, lag      atomic.Uint64
}

func newMetricSet() *metricSet {
	m := &metricSet{
		events:     metrics.GetOrCreateCounter("serin_analysis_events_total"),
		duplicates: metrics.GetOrCreateCounter("serin_analysis_duplicate_beacons_total"),
		seals:      metrics.GetOrCreateSummary("serin_analysis_seal_seconds"),
	}
	return m
}

// Gauges reports the engine's place in the journal: the position of the last
// folded message, and how many messages are still to come.
func (e *Engine) Gauges() (position, lag uint64) {
	return e.metrics.position.Load(), e.metrics.lag.Load()
}

func (m *metricSet) verdict(d verdict.Decision) {
	metrics.GetOrCreateCounter(`serin_verdicts_total{decision="` + d.String() + `"}`).Inc()
}

// leaked counts releases whose first leak was seen.
func (m *metricSet) leaked(tenant, app string) {
	metrics.GetOrCreateCounter(fmt.Sprintf("serin_release_leaks_total{tenant=%q,app=%q}", tenant, app)).Inc()
}
