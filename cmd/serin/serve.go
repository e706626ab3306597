package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"

	"go.yaml.in/yaml/v3"

	"serin.dev/serin/internal/store/segment"
)

// serve runs the server until it is told to stop.
func serve(ctx context.Context, args []string, stdout, stderr io.Writer) (failed error) {
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	file := fs.String("config", "", "configuration `FILE`; without one, DATA/serin.yaml, which is made on the first start")
	listen := fs.String("listen", "", "`address` to listen on")
	data := fs.String("data", "", "`folder` for all that is stored")
	sdk := fs.String("sdk", "", "built SDK `file` to serve as /serin.js")
	verbose := fs.Bool("verbose", false, "log more")
	cpuProfile := fs.String("cpuprofile", "", "write what the processor did until the end to `FILE`, for go tool pprof")
	if _, err := parse(fs, args, 0, stderr); err != nil {
		return err
	}
	c, err := loadConfig(*file)
	if err != nil {
		return err
	}
	override := func() {
		for _, f := range []struct{ from, to *string }{{listen, &c.Listen}, {data, &c.Data}, {sdk, &c.SDK}} {
			if *f.from != "" {
				*f.to = *f.from
			}
		}
	}
	override()
	var first *tenantConfig
	if *file == "" {
		if first, err = starter(&c); err != nil {
			return err
		}
		override() // flags go before that file, too
	}
	if *cpuProfile != "" {
		end, err := profile(*cpuProfile)
		if err != nil {
			return err
		}
		defer func() { failed = errors.Join(failed, end()) }()
	}
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) < leastProcs {
		runtime.GOMAXPROCS(leastProcs)
	}
	if os.Getenv("GOGC") == "" {
		go collect(ctx)
	}
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	s, err := newServer(ctx, c, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})))
	if err != nil {
		return err
	}
	if first != nil {
		welcome(stdout, s, first)
	}
	return s.run(ctx)
}

// leastProcs is how many goroutines may run at once, where there is one core, too. One
// that waits for the disk's sync keeps its turn until the runtime takes it away, some 0.2
// ms later, 300 times in a second (go tool trace), and one that the system holds up, since
// its thread gives way to the others, keeps it for longer: a third goes on meanwhile.
const leastProcs = 3

// profile begins to write a CPU profile, until end is called.
func profile(file string) (end func() error, err error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, fmt.Errorf("make the CPU profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, fmt.Errorf("make the CPU profile: %w", errors.Join(err, f.Close()))
	}
	return func() error {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			return fmt.Errorf("write the CPU profile: %w", err)
		}
		return nil
	}, nil
}

// starter reads DATA/serin.yaml, or makes it: one tenant with a key and a
// token, and nothing else, so that a new user can point a page at the server
// at once. It returns the tenant where the token is still known.
func starter(c *config) (*tenantConfig, error) {
	path := filepath.Join(c.Data, "serin.yaml")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		made := struct {
			Tenants []tenantConfig `yaml:"tenants"`
		}{[]tenantConfig{{ID: "default",
			Keys:   []keyConfig{{Key: "pk_" + random(12)}},
			Tokens: []tokenConfig{{Name: "first", Role: "admin", Token: "sk_" + random(24)}}}}}
		text, err := yaml.Marshal(made)
		if err != nil {
			return nil, fmt.Errorf("make configuration: %w", err)
		}
		head := "# Made by serin serve on its first start. Serin's docs/operations.md tells what may stand here.\n"
		// The file holds a secret; WriteFile makes it readable by its owner alone.
		if err := segment.WriteFile(path, append([]byte(head), text...)); err != nil {
			return nil, fmt.Errorf("make configuration: %w", err)
		}
	}
	loaded, err := loadConfig(path)
	if err != nil {
		return nil, err
	}
	loaded.Data = c.Data // in which the file is
	*c = loaded
	if len(c.Tenants) == 1 && len(c.Tenants[0].Keys) > 0 && len(c.Tenants[0].Tokens) > 0 {
		return &c.Tenants[0], nil
	}
	return nil, nil
}

// base64Random returns n random bytes in base64.
func base64Random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}

// random returns n random bytes in hex.
func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// welcome prints what a page needs, and where to look.
func welcome(w io.Writer, s *server, t *tenantConfig) {
	script := s.url() + "/serin.js"
	if s.c.SDK == "" {
		script = "serin.js"
	}
	fmt.Fprintf(w, `Serin listens on %[1]s; its configuration is %[2]s.

Put this at the top of a page's <head>:

  <script src="%[3]s"></script>
  <script>
    Serin.init({
      key: %[4]q,
      endpoint: %[1]q,
      app: 'shop-web',
      release: '2.4.1',
      arms: { 'release/2.4.1': 'canary' },
    });
  </script>

Rollouts and their verdicts: %[1]s/#token=%[5]s

`, s.url(), filepath.Join(s.c.Data, "serin.yaml"), script, t.Keys[0].Key, t.Tokens[0].Token)
}
