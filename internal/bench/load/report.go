package load

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Report is what a load came to. Times are in the units of their names.
type Report struct {
	Format      string  `json:"format"`
	Seconds     float64 `json:"seconds"`     // from the first beacon to the last answer
	Connections int     `json:"connections"` // that sent
	Idle        int     `json:"idle"`        // that were open beside them, to the end
	Beacons     int64   `json:"beacons"`     // answered well; of a websocket: messages
	Events      int64   `json:"events"`      // offered, hostile ones not among them
	Accepted    int64   `json:"accepted"`    // events of those, by the server's answers
	Shed        int64   `json:"shed"`        // likewise
	Bytes       int64   `json:"bytes"`       // of bodies that were sent
	Hostile     int64   `json:"hostile"`     // bodies
	Failed      int64   `json:"failed"`      // beacons without a whole answer
	Unsent      int64   `json:"unsent"`      // beacons that were due and never sent: the server or the generator was too slow

	AcceptedPerSecond float64        `json:"accepted_per_second"`
	P50ms             float64        `json:"p50_ms"`
	P99ms             float64        `json:"p99_ms"`
	P999ms            float64        `json:"p999_ms"`
	MaxMS             float64        `json:"max_ms"`
	LateP99ms         float64        `json:"late_p99_ms"`      // how late the generator itself began to send
	LoadCPUSeconds    float64        `json:"load_cpu_seconds"` // of the generator: near Seconds, it has measured itself
	Statuses          map[string]int `json:"statuses"`
	HostileStatuses   map[string]int `json:"hostile_statuses,omitempty"`
	Arms              map[string]Arm `json:"arms"`

	ServerCPUSeconds   float64 `json:"server_cpu_seconds,omitempty"` // with its children
	EventsPerCPUSecond float64 `json:"events_per_cpu_second,omitempty"`
	CPUSecondsPerM     float64 `json:"cpu_seconds_per_million_events,omitempty"`
	PeakRSSBytes       int64   `json:"peak_rss_bytes,omitempty"` // the highest of looks every 250 ms, with its children
	Processes          int     `json:"processes,omitempty"`
	OthersCores        float64 `json:"others_cores,omitempty"` // what else kept processors of the machine busy meanwhile: its neighbors, and the kernel on behalf of all
	Warning            string  `json:"warning,omitempty"`
}

// Arm is what became of the events of one cohort.
type Arm struct {
	Events   int64 `json:"events"`
	Accepted int64 `json:"accepted"`
	Shed     int64 `json:"shed"`
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Print writes the report for people.
func (r *Report) Print(w io.Writer) {
	fmt.Fprintf(w, "%s over %d connections for %.1f s, %d idle beside them\n", r.Format, r.Connections, r.Seconds, r.Idle)
	fmt.Fprintf(w, "events     %d offered, %d accepted, %d shed; %.0f accepted a second\n", r.Events, r.Accepted, r.Shed, r.AcceptedPerSecond)
	fmt.Fprintf(w, "answers    p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, longest %.2f ms; begun late by %.2f ms at p99, %.2f CPU-seconds of the generator\n", r.P50ms, r.P99ms, r.P999ms, r.MaxMS, r.LateP99ms, r.LoadCPUSeconds)
	fmt.Fprintf(w, "statuses   %s; %d failed, %d due and not sent\n", statuses(r.Statuses), r.Failed, r.Unsent)
	if r.Hostile > 0 {
		fmt.Fprintf(w, "hostile    %d bodies: %s\n", r.Hostile, statuses(r.HostileStatuses))
	}
	for _, arm := range slices.Sorted(maps.Keys(r.Arms)) {
		a := r.Arms[arm]
		fmt.Fprintf(w, "%-10s %d events, %.3f %% shed\n", arm, a.Events, 100*float64(a.Shed)/float64(max(a.Events, 1)))
	}
	if r.Processes > 0 {
		fmt.Fprintf(w, "server     %.2f CPU-seconds: %.0f events per CPU-second, %.3f CPU-seconds per million events; at most %.1f MB in %d processes; others kept %.2f cores busy\n",
			r.ServerCPUSeconds, r.EventsPerCPUSecond, r.CPUSecondsPerM, float64(r.PeakRSSBytes)/1e6, r.Processes, r.OthersCores)
	}
	if r.Warning != "" {
		fmt.Fprintf(w, "warning    %s\n", r.Warning)
	}
}

func statuses(m map[string]int) string {
	var parts []string
	for _, s := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s x %d", s, m[s]))
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}
