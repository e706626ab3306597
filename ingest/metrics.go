package ingest

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"

	"serin.dev/serin/internal/event"
)

// metricSet holds the edge's own metrics.
type metricSet struct {
	accepted      *metrics.Counter
	beacons       *metrics.Counter
	journal       *metrics.Histogram
	journalBytes  *metrics.Counter
	journalEvents *metrics.Counter
	ack           *metrics.Histogram
}

func newMetricSet() *metricSet {
	return &metricSet{
		accepted:      metrics.GetOrCreateCounter("serin_ingest_accepted_events_total"),
		beacons:       metrics.GetOrCreateCounter("serin_ingest_accepted_beacons_total"),
		journal:       metrics.GetOrCreateHistogram("serin_journal_append_seconds"),
		journalBytes:  metrics.GetOrCreateCounter("serin_journal_bytes_total"),
		journalEvents: metrics.GetOrCreateCounter("serin_journal_events_total"),
		ack:           metrics.GetOrCreateHistogram("serin_ingest_ack_seconds"),
	}
}

// rejected counts what was not admitted: events by reason and tenant, or whole
// beacons where what is "beacon". A tenant that no key vouches for is "".
func rejected(what, tenant string, reason event.Reason, n int) {
	metrics.GetOrCreateCounter(fmt.Sprintf(`serin_ingest_rejected_%ss_total{tenant=%q,reason=%q}`, what, tenant, string(reason))).Add(n)
}
