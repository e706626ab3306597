package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/store/segment"
)

// crashes is how often the server is killed.
const crashes = 24

// TestKillCountsExactlyOnce kills the server at random instants under load:
// while it starts, while it serves, while it seals. The clients send each
// beacon again until it is acknowledged, and their record of acknowledgements
// is the judge: in the end each beacon they name is in the segments once, and
// no beacon is there twice.
func TestKillCountsExactlyOnce(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	c := testConfig(filepath.Join(dir, "data"))
	file := filepath.Join(dir, "serin.yaml")
	text, err := yaml.Marshal(map[string]any{"listen": address, "data": c.Data, "seal_after": "60ms", "tenants": c.Tenants})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	start := func() (*exec.Cmd, *bytes.Buffer) {
		cmd := exec.Command(os.Args[0], "serve", "--config", file)
		cmd.Env = append(os.Environ(), beSerin+"=1")
		var log bytes.Buffer
		cmd.Stderr = &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, &log
	}

	halt := make(chan struct{})
	var wg sync.WaitGroup
	records := make([]ackRecord, 12)
	for i := range records {
		records[i] = ackRecord{made: map[string]int{}, acked: map[string]bool{}}
		wg.Go(func() { records[i].send(t, address, i, halt) })
	}
	const seed = 20261124
	rng := rand.New(rand.NewPCG(seed, 1))
	acknowledged := func() (n int) {
		for i := range records {
			records[i].mu.Lock()
			n += len(records[i].acked)
			records[i].mu.Unlock()
		}
		return n
	}
	underLoad, before := 0, 0
	for i := range crashes {
		cmd, _ := start()
		// Every eighth kill comes at any instant, that of the start among them;
		// the others once load is under way again, however slow the machine is.
		for n := 0; i%8 != 7 && acknowledged() == before && n < 2000; n++ {
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Duration(rng.IntN(700)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // says that it was killed
		if n := acknowledged(); n > before {
			underLoad, before = underLoad+1, n
		}
	}
	end := func(cmd *exec.Cmd, log *bytes.Buffer) {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatalf("the server ended with %v:\n%s", err, log)
		}
	}
	ready := func(log *bytes.Buffer) {
		for i := 0; ; i++ {
			if _, err := get(t.Context(), "http://"+address+"/readyz", ""); err == nil {
				return
			}
			if i == 600 {
				t.Fatalf("the server does not come back:\n%s", log)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	cmd, log := start()
	ready(log)
	time.Sleep(500 * time.Millisecond)
	close(halt)
	wg.Wait() // each client ends with an acknowledgement
	end(cmd, log)
	// What the analysis had not folded yet is in the journal. A server is ready
	// when it has folded all that the journal held when it started.
	cmd, log = start()
	ready(log)
	end(cmd, log)
	if underLoad < 20 {
		t.Fatalf("only %d of %d kills came after new acknowledgements (seed %d)", underLoad, crashes, seed)
	}

	s, err := segment.OpenReadOnly(filepath.Join(c.Data, "segments"))
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]int{} // beacon: rows
	twice := 0
	tenants, err := s.Tenants()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range tenants {
		err := s.Replay(t.Context(), id, "shop-web", func(b *batch.Batch, lo, hi int) error {
			name := fmt.Sprintf("%s/%d", b.Text(batch.Session, lo), b.Seq(lo))
			if _, ok := stored[name]; ok {
				twice++
			}
			stored[name] = hi - lo
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	lost, wrong, acked, unknown := 0, 0, 0, len(stored)
	for i := range records {
		for name := range records[i].acked {
			acked++
			if _, ok := stored[name]; !ok {
				lost++
			}
		}
		for name, rows := range records[i].made {
			if n, ok := stored[name]; ok {
				unknown--
				if n != rows {
					wrong++
				}
			}
		}
	}
	if lost+twice+wrong+unknown > 0 {
		t.Errorf("of %d acknowledged beacons %d are lost; of %d stored %d are there twice, %d with a wrong number of events, %d nobody sent (seed %d)",
			acked, lost, len(stored), twice, wrong, unknown, seed)
	}
	t.Logf("%d kills, %d of them after new acknowledgements; %d beacons acknowledged, %d stored", crashes, underLoad, acked, len(stored))
}

// ackRecord is one client's record.
type ackRecord struct {
	mu    sync.Mutex
	made  map[string]int // events, by session/seq
	acked map[string]bool
}

func (r *ackRecord) send(t *testing.T, address string, client int, halt <-chan struct{}) {
	hc := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
	defer hc.CloseIdleConnections()
	for n := 0; ; n++ {
		session, seq, events := fmt.Sprintf("client%d-session%d", client, n/20), n%20, 1+n%5
		name := fmt.Sprintf("%s/%d", session, seq)
		now := time.Now().UnixMilli()
		b := wireBeacon{V: 1, SDK: "test/1", App: "shop-web", Release: "2.4.0", Session: session, Seq: seq, Sent: now, Ctx: map[string]string{"platform": "web"}}
		for range events {
			b.Events = append(b.Events, vital("LCP", now, float64(1000+n)))
		}
		body, err := json.Marshal(b)
		if err != nil {
			t.Error(err)
			return
		}
		r.mu.Lock()
		r.made[name] = events
		r.mu.Unlock()
		for {
			status, text := post(hc, "http://"+address+"/v1/beacons?key="+ownKey, body)
			if status == http.StatusAccepted {
				r.mu.Lock()
				r.acked[name] = true
				r.mu.Unlock()
				break
			}
			if status != 0 && status < 500 {
				t.Errorf("beacon %s: %d %s", name, status, text)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		select {
		case <-halt:
			return
		default:
		}
	}
}

// post returns status 0 where there was no whole answer.
func post(hc *http.Client, url string, body []byte) (int, string) {
	res, err := hc.Post(url, "text/plain", bytes.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || !strings.HasSuffix(string(text), "}") && !strings.HasSuffix(string(text), "}\n") {
		return 0, "the answer ended early"
	}
	return res.StatusCode, string(text)
}
