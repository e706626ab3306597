package ingest

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/bench/corpus"
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

// BenchmarkDecodeLoad decodes the foreign bodies that a server is loaded with,
// of 10 events each, as the server does those that are familiar.
func BenchmarkDecodeLoad(b *testing.B) {
	for _, f := range []corpus.Format{corpus.OTLPProto, corpus.OTLPJSON, corpus.Faro, corpus.Sentry} {
		b.Run(string(f), func(b *testing.B) {
			bodies, err := corpus.Encode(f, corpus.Make(corpus.Options{Seed: 1, Sessions: 64, Events: 10, Now: time.Now().UnixMilli()}))
			if err != nil {
				b.Fatal(err)
			}
			first, fields, _ := strings.Cut(string(corpus.Head(f, "x", "pk")), "\r\n")
			target, err := url.Parse(strings.Fields(first)[1])
			if err != nil {
				b.Fatal(err)
			}
			header := map[string]string{}
			for line := range strings.Lines(fields) {
				if name, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
					header[strings.ToLower(name)] = value
				}
			}
			p, _ := routed([]byte(target.Path))
			d := new(decoding)
			b.ReportAllocs()
			events, n := 0, 0
			before := cpuTime(b)
			for b.Loop() {
				req := dialect.Request{Method: http.MethodPost, Target: target, Header: header, Now: time.Now().UnixMilli(), Key: "pk"}
				a, ok := d.decodeHere(p.name, &req, bodies[n%len(bodies)][0].Bytes)
				n++
				if !ok || a.Refusal != nil {
					b.Fatalf("decoded %v, refused with %+v", ok, a.Refusal)
				}
				events += a.Result.Events()
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(events), "cpu-ns/event")
		})
	}
}
