package batch

import (
	"testing"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

func thousand() []*event.Beacon {
	bs := make([]*event.Beacon, 1000)
	for i := range bs {
		bs[i] = typical(i)
	}
	return bs
}

// BenchmarkAppend builds batches of 10,000 rows.
func BenchmarkAppend(b *testing.B) {
	bs, p := thousand(), Partition{mustID(b, "acme"), "web", "2.4.1"}
	b.ReportAllocs()
	rows := 0
	for b.Loop() {
		batch := New(p)
		for i, bc := range bs {
			batch.Append(1, i, bc)
		}
		rows += batch.Len()
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkAppendAgain builds the same batches in memory that they keep.
func BenchmarkAppendAgain(b *testing.B) {
	bs, batch := thousand(), New(Partition{mustID(b, "acme"), "web", "2.4.1"})
	b.ReportAllocs()
	rows := 0
	for b.Loop() {
		batch.Reset()
		for i, bc := range bs {
			batch.Append(1, i, bc)
		}
		rows += batch.Len()
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkGroupAdd packs groups of 1,000 beacons of ten events.
func BenchmarkGroupAdd(b *testing.B) {
	bs, id := thousand(), mustID(b, "acme")
	b.ReportAllocs()
	var g Group
	events, bytes := 0, 0
	for b.Loop() {
		for _, bc := range bs {
			g.Add(id, bc)
		}
		events += g.Events()
		bytes += len(g.Seal())
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(bytes)/float64(events), "bytes/event")
}

// BenchmarkGroupOfTen packs groups of ten beacons, as a quiet server does.
func BenchmarkGroupOfTen(b *testing.B) {
	bs, id := thousand()[:10], mustID(b, "acme")
	var g Group
	events, bytes := 0, 0
	for b.Loop() {
		for _, bc := range bs {
			g.Add(id, bc)
		}
		events += g.Events()
		bytes += len(g.Seal())
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(bytes)/float64(events), "bytes/event")
}

// BenchmarkReadGroup reads groups of 1,000 beacons of ten events.
func BenchmarkReadGroup(b *testing.B) {
	msg, events := sealed(b, thousand()...), 0
	b.ReportAllocs()
	for b.Loop() {
		if err := ReadGroup(msg, func(_ tenant.ID, bc *event.Beacon) error { events += len(bc.Events); return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}
