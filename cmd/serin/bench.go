package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.yaml.in/yaml/v3"
)

// benchEvents is how many events a beacon of the benchmark has.
const benchEvents = 10

// bench measures the whole way on one machine: a server in a process of its
// own, clients that send beacons of 10 events over HTTP, and each beacon
// counted when its acknowledgement is there, which is after the sync. What it
// divides by is the CPU time of the server's process, analysis and segments
// included, so the clients' cost does not count.
func bench(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	length := fs.Duration("length", 10*time.Second, "`time` that each of the two phases takes")
	clients := fs.Int("clients", 256, "connections that send at once")
	if _, err := parse(fs, args, 0, stderr); err != nil {
		return err
	}
	if *length < time.Second || *clients < 1 || *clients > 4096 {
		fmt.Fprintf(stderr, "serin bench: want a -length of 1s or more and 1 to 4096 -clients\n")
		return errUsage
	}
	dir, err := os.MkdirTemp("", "serin-bench-*")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	b, err := startBench(ctx, dir, stderr)
	if err != nil {
		return err
	}
	defer b.stop()

	// Full load: as fast as the acknowledgements come.
	before, err := b.cpu(ctx)
	if err != nil {
		return err
	}
	full := b.load(ctx, *clients, *length, 0)
	if err := b.caughtUp(ctx); err != nil {
		return err
	}
	after, err := b.cpu(ctx)
	if err != nil {
		return err
	}
	// Half load: at half the rate that full load reached, for the latency that
	// a client meets while nothing is saturated.
	half := b.load(ctx, *clients, *length, full.perSecond()/2)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := b.stop(); err != nil { // which seals what was folded
		return fmt.Errorf("stop the server: %w", err)
	}
	journalBytes, err := size(filepath.Join(dir, "data", "journal"))
	if err != nil {
		return err
	}
	segmentBytes, err := size(filepath.Join(dir, "data", "segments"))
	if err != nil {
		return err
	}
	events := float64((full.acked + half.acked) * benchEvents)
	fmt.Fprintf(stdout, "%s, %d CPUs, %d connections, %d events a beacon, each beacon acknowledged after its sync\n",
		runtime.Version(), runtime.NumCPU(), *clients, benchEvents)
	fmt.Fprintf(stdout, "full load  %9.0f events/s  %9.0f events per CPU-second of the server  p50 %v  p99 %v  failed %d\n",
		full.perSecond()*benchEvents, float64(full.acked*benchEvents)/(after-before), full.quantile(0.5), full.quantile(0.99), full.failed)
	fmt.Fprintf(stdout, "half load  %9.0f events/s  p50 %v  p99 %v  failed %d\n",
		half.perSecond()*benchEvents, half.quantile(0.5), half.quantile(0.99), half.failed)
	fmt.Fprintf(stdout, "on disk    %.1f bytes per event in the journal, %.1f in segments\n", float64(journalBytes)/events, float64(segmentBytes)/events)
	if full.failed+half.failed > 0 {
		return fmt.Errorf("%d beacons were not acknowledged", full.failed+half.failed)
	}
	return nil
}

// benchmark is a server under load.
type benchmark struct {
	address string
	server  *exec.Cmd
	once    sync.Once
	stopErr error
}

func startBench(ctx context.Context, dir string, stderr io.Writer) (*benchmark, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port: %w", err)
	}
	address := l.Addr().String()
	l.Close()
	c, err := yaml.Marshal(map[string]any{"listen": address, "data": filepath.Join(dir, "data"),
		"tenants": []tenantConfig{{ID: "bench", Keys: []keyConfig{{Key: "pk_bench"}}}}})
	if err != nil {
		return nil, fmt.Errorf("make configuration: %w", err)
	}
	file := filepath.Join(dir, "serin.yaml")
	if err := os.WriteFile(file, c, 0o600); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var log bytes.Buffer
	b := &benchmark{address: address, server: exec.CommandContext(ctx, self, "serve", "--config", file)}
	b.server.Stderr = &log
	if err := b.server.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	for range 300 {
		if _, err := get(ctx, "http://"+address+"/readyz", ""); err == nil {
			return b, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	_ = b.stop()
	_, _ = stderr.Write(log.Bytes())
	return nil, errors.New("the server did not become ready")
}

func (b *benchmark) stop() error {
	b.once.Do(func() {
		_ = b.server.Process.Signal(os.Interrupt) // fails only where it has ended
		b.stopErr = b.server.Wait()
	})
	return b.stopErr
}

// metric reads one of the server's own metrics.
func (b *benchmark) metric(ctx context.Context, name string) (float64, error) {
	text, err := get(ctx, "http://"+b.address+"/metrics", "")
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(v), 64)
		}
	}
	return 0, fmt.Errorf("the server has no metric %s", name)
}

// cpu returns the server's CPU time in seconds.
func (b *benchmark) cpu(ctx context.Context) (float64, error) {
	return b.metric(ctx, "process_cpu_seconds_total")
}

// caughtUp waits until the analysis has folded all that was acknowledged.
func (b *benchmark) caughtUp(ctx context.Context) error {
	for range 600 {
		accepted, err := b.metric(ctx, "serin_ingest_accepted_events_total")
		if err != nil {
			return err
		}
		folded, err := b.metric(ctx, "serin_analysis_events_total")
		if err != nil {
			return err
		}
		if folded >= accepted {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.New("the analysis did not catch up within a minute")
}

// phase is what one load came to.
type phase struct {
	acked, failed int64
	took          time.Duration
	latencies     []time.Duration // sorted
}

func (p *phase) perSecond() float64 { return float64(p.acked) / p.took.Seconds() }

func (p *phase) quantile(q float64) time.Duration {
	if len(p.latencies) == 0 {
		return 0
	}
	i := int(math.Ceil(q*float64(len(p.latencies)))) - 1
	return p.latencies[max(i, 0)].Round(10 * time.Microsecond)
}

// load sends beacons from n connections: each as fast as it is answered, or,
// where rate is above 0, at that many beacons per second in all. A latency is
// counted from when its beacon was due, so that a stall is not left out.
func (b *benchmark) load(ctx context.Context, n int, length time.Duration, rate float64) phase {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var acked, failed, due atomic.Int64
	latencies := make([][]time.Duration, n)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			c := &benchClient{address: b.address, rng: rand.New(rand.NewPCG(uint64(began.UnixNano()), uint64(i)))}
			defer c.close()
			for ctx.Err() == nil {
				start := time.Now()
				if rate > 0 {
					start = began.Add(time.Duration(float64(due.Add(1)) / rate * float64(time.Second)))
					select {
					case <-ctx.Done():
						return
					case <-time.After(time.Until(start)):
					}
				}
				if err := c.send(); err != nil {
					failed.Add(1)
					c.close()
					continue
				}
				acked.Add(1)
				latencies[i] = append(latencies[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	p := phase{acked: acked.Load(), failed: failed.Load(), took: time.Since(began), latencies: slices.Concat(latencies...)}
	slices.Sort(p.latencies)
	return p
}

// benchClient is a connection that writes requests as bytes: net/http's client
// would take more of the machine than the server that is measured.
type benchClient struct {
	address string
	rng     *rand.Rand
	conn    net.Conn
	r       *bufio.Reader
	session string
	seq     int
}

// send sends one beacon of a session that is 8 beacons long.
func (c *benchClient) send() error {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.address, 5*time.Second)
		if err != nil {
			return err
		}
		c.conn, c.r = conn, bufio.NewReader(conn)
	}
	if c.seq == 0 {
		c.session = fmt.Sprintf("%016x%08x", c.rng.Uint64(), c.rng.Uint32())
	}
	body := c.body()
	c.seq = (c.seq + 1) % 8
	if err := c.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	head := fmt.Sprintf("POST /v1/beacons?key=pk_bench HTTP/1.1\r\nHost: %s\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: %d\r\n\r\n", c.address, len(body))
	if _, err := (&net.Buffers{[]byte(head), body}).WriteTo(c.conn); err != nil {
		return err
	}
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusAccepted {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}

func (c *benchClient) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// body is a beacon as the SDK of a shop's page would send it.
func (c *benchClient) body() []byte {
	now := time.Now().UnixMilli()
	arm, release := "baseline", "2.4.0"
	if c.session[0] < '2' {
		arm, release = "canary", "2.4.1"
	}
	b := wireBeacon{V: 1, SDK: "serin-js/1.0.0", App: "shop-web", Release: release, Session: c.session, User: "h:" + c.session[:8], Seq: c.seq, Sent: now,
		Arms: map[string]string{demoChange: arm},
		Ctx:  map[string]string{"platform": "web", "os": "Android 15", "browser": "Chrome 142", "device": "mobile", "network": "4g", "page": "/checkout"}}
	took := math.Round(1000*80*math.Exp(c.rng.NormFloat64())) / 1000
	b.Events = []wireEvent{
		vital("TTFB", now, 180*math.Exp(0.5*c.rng.NormFloat64())),
		vital("FCP", now, 900*math.Exp(0.5*c.rng.NormFloat64())),
		vital("LCP", now, 1500*math.Exp(0.5*c.rng.NormFloat64())),
		vital("CLS", now, 0.03*math.Exp(c.rng.NormFloat64())),
		vital("INP", now, 90*math.Exp(0.7*c.rng.NormFloat64())),
		{K: "view", N: "/checkout", T: now},
		{K: "request", N: "GET /api/cart", T: now, V: &took, A: map[string]any{"status": 200}},
		{K: "request", N: "POST /api/pay", T: now, V: &took, A: map[string]any{"status": 503, "failed": true}},
		{K: "metric", N: "order_value", T: now, V: &took},
		{K: "error", N: "TypeError", T: now, M: "x is undefined", S: "pay@https://shop.example/checkout.js:1:20817", A: map[string]any{"handled": false}},
	}
	text, err := json.Marshal(b)
	if err != nil {
		panic("BUG: a beacon that is not JSON: " + err.Error())
	}
	return text
}

// size sums the files below a folder, in bytes.
func size(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}
