package mutate

import "testing"

// BenchmarkMutate must stay far below what a server takes for a beacon.
func BenchmarkMutate(b *testing.B) {
	m := New(1, 1)
	body, other := []byte(good), []byte(good)
	total := 0
	b.ReportAllocs()
	for b.Loop() {
		x, _, _ := m.Mutate(body, other)
		total += len(x)
	}
	b.ReportMetric(float64(total)/float64(b.N), "bytes/body")
}
