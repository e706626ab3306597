package ingest

import (
	"testing"
)

// BenchmarkDecodeForeign decodes what real SDKs sent for one visit, as a taster
// does.
func BenchmarkDecodeForeign(b *testing.B) {
	for _, c := range sdks {
		b.Run(c.capture, func(b *testing.B) {
			list := captures(b, c.capture)
			b.ReportAllocs()
			events := 0
			for b.Loop() {
				for _, one := range list {
					res, err := DecodeBody(c.protocol, one, recorded)
					if err != nil {
						b.Fatal(err)
					}
					events += res.Events()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(events), "us/event")
		})
	}
}
