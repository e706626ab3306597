package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const token = "sk_interop_releaser"

// serin is a server that runs as an operator runs it.
type serin struct{ url string }

// startSerin starts the binary that SERIN_BIN names, with more lines of configuration for its tenant.
func startSerin(t *testing.T, more string) *serin {
	t.Helper()
	bin := os.Getenv("SERIN_BIN")
	if bin == "" {
		t.Fatal("SERIN_BIN is not set; type make interop")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "serin.yaml")
	text := fmt.Sprintf("listen: %s\ndata: %s\nwebhook_allow: [127.0.0.0/8]\ntenants:\n- id: shop\n  keys: [{key: pk_interop}]\n  tokens: [{name: ci, role: releaser, token: %s}]\n%s",
		address, filepath.Join(dir, "data"), token, more)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, bin, "serve", "--config", config)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it ends as it was told to
		if t.Failed() {
			t.Logf("serin said:\n%s", out.String())
		}
	})
	s := &serin{url: "http://" + address}
	for range 400 {
		if res, err := http.Get(s.url + "/readyz"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return s
			}
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatal("serin did not become ready")
	return nil
}

func (s *serin) call(t *testing.T, path, body string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode/100 != 2 {
		t.Fatalf("%s: %s %s %v", path, res.Status, raw, err)
	}
	return raw
}

// rollout registers a rollout of two stages.
func (s *serin) rollout(t *testing.T, id string) {
	t.Helper()
	s.call(t, "/v1/rollouts", fmt.Sprintf(`{"id":%q,"app":"shop-web","change":"release/2.4.1","canary":"2.4.1","baseline":"2.4.0",
 "stages":[{"weight":0.05,"deadline":"10h"},{"weight":0.25,"deadline":"10h"}]}`, id))
}

// decide makes a person's decision, which is how a test has the answer that it
// wants without thousands of sessions.
func (s *serin) decide(t *testing.T, id, decision string) {
	t.Helper()
	s.call(t, "/v1/rollouts/"+id+"/override", fmt.Sprintf(`{"decision":%q,"why":"a test"}`, decision))
}

// gate returns the path of a gate.
func (s *serin) gate(t *testing.T, id, scope string) string {
	t.Helper()
	var made struct{ Path string }
	if err := json.Unmarshal(s.call(t, "/v1/rollouts/"+id+"/gate", fmt.Sprintf(`{"scope":%q}`, scope)), &made); err != nil {
		t.Fatal(err)
	}
	return made.Path
}

// fault is what stands between a tool and Serin.
type fault int32

// The faults.
const (
	none    fault = iota
	dead          // connections are reset
	hanging       // nothing is answered
	failing       // 500
	garbled       // 200 and what is no answer
)

var faultNames = map[fault]string{none: "none", dead: "dead", hanging: "hanging", failing: "answering 500", garbled: "answering garbage"}

// network is a proxy before Serin that can be told to fail.
type network struct {
	*httptest.Server
	fault atomic.Int32
	asked atomic.Int32 // requests that came while there was a fault
}

func before(t *testing.T, s *serin) *network {
	t.Helper()
	to, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	n := &network{}
	ended := make(chan struct{})
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := fault(n.fault.Load())
		if f != none {
			n.asked.Add(1)
		}
		switch f {
		case none:
			proxy.ServeHTTP(w, r)
		case dead:
			panic(http.ErrAbortHandler)
		case hanging:
			select {
			case <-r.Context().Done():
			case <-ended:
			}
		case failing:
			http.Error(w, "internal error", http.StatusInternalServerError)
		case garbled:
			fmt.Fprint(w, "<html>502 Bad Gateway</html>")
		}
	}))
	t.Cleanup(func() {
		close(ended)
		n.CloseClientConnections()
		n.Close()
	})
	return n
}
