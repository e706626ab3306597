// Package journal is where beacons become durable before anything else happens
// to them: named logs of messages, each with a position, kept by NATS JetStream.
//
// A [Journal] is a JetStream server inside this process that listens on no
// port, or a connection to an external cluster; the code above it cannot tell
// which. A [Log] is one stream of it. Every message is on disk, synced, before
// [Log.Append] returns. The settings, and what they mean for kill -9 and for
// power loss, are in docs/formats/journal.md.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What can go wrong with a log, as classes. Errors of this package wrap one of
// them, or the cause that JetStream gave, with what was being done.
var (
	// ErrMoved says that a compare-and-append found another last position.
	ErrMoved = errors.New("log has moved")
	// ErrDiscarded says that a position asked for is older than all that is kept.
	ErrDiscarded = errors.New("position was discarded")
	// ErrFull says that a log or its disk has no room; nothing was stored.
	ErrFull = errors.New("log is full")
	// ErrClosed says that the journal was closed.
	ErrClosed = errors.New("journal is closed")
	// ErrGap says that a log misses a position between two that it has: its
	// files are damaged, or somebody deleted a message by hand.
	ErrGap = errors.New("log has a gap")
)

const (
	// maxPayloadBytes is JetStream's limit on headers and data together. Above
	// 8 MiB the server warns on every start, and its default is 1 MiB.
	maxPayloadBytes = 8 << 20

	// MaxMessageBytes is the largest message a log takes. What is missing to
	// 8 MiB is room for the header of a compare-and-append.
	MaxMessageBytes = maxPayloadBytes - 1<<10

	// defaultTimeout bounds calls whose context has no deadline. A sync takes
	// well under a second on a healthy disk; a disk that needs longer than this
	// is treated as one that failed.
	defaultTimeout = 30 * time.Second
)

// Options says where a journal lives.
type Options struct {
	// Dir is the directory of the embedded server; made if absent. Unused when
	// URL is set.
	Dir string
	// URL is an external NATS server or a comma-separated list of them. Empty
	// means the embedded server.
	URL string
	// Credentials is the path of a NATS credentials file for URL; empty for none.
	Credentials string
	// Replicas is how many servers of URL's cluster keep each log; 0 means 1.
	// An embedded server is alone, so there it must be 0 or 1.
	Replicas int
	// StartTimeout is how long Open waits for the server to be ready, recovery
	// of its files included; 0 means 30 s.
	StartTimeout time.Duration
	// Logger takes the server's warnings and errors; nil discards them.
	Logger *slog.Logger
}

// Journal is a set of logs. Its methods may be called from many goroutines.
type Journal struct {
	replicas int
	logger   *slog.Logger

	// Appends and reads have a connection each: an acknowledgment must not
	// queue behind megabytes of a follower's messages.
	write, read     *nats.Conn
	writeJS, readJS jetstream.JetStream

	srv  *server.Server // nil when external
	lock *dirLock       // nil when external

	closed atomic.Bool
	ctx    context.Context // ends with Close
	stop   context.CancelFunc
}

// Open starts the embedded server in o.Dir, or connects to o.URL, and returns
// when JetStream answers. It fails at once when another process has o.Dir open,
// and after o.StartTimeout when the server is not ready by then. ctx is for
// opening only.
func Open(ctx context.Context, o Options) (*Journal, error) {
	if o.StartTimeout <= 0 {
		o.StartTimeout = 30 * time.Second
	}
	if o.Replicas <= 0 {
		o.Replicas = 1
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.URL == "" && o.Dir == "":
		return nil, errors.New("open journal: neither a directory nor a URL is given")
	case o.URL == "" && o.Replicas > 1:
		return nil, fmt.Errorf("open journal %s: %d replicas need an external cluster", o.Dir, o.Replicas)
	}
	ctx, cancel := context.WithTimeout(ctx, o.StartTimeout)
	defer cancel()

	j := &Journal{replicas: o.Replicas, logger: o.Logger}
	j.ctx, j.stop = context.WithCancel(context.Background())
	if err := j.open(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("open journal %s: %w", o.place(), err), j.Close())
	}
	return j, nil
}

// place names the journal in errors. A URL may hold a password, so it is not
// repeated.
func (o Options) place() string {
	if o.URL != "" {
		return "at external server"
	}
	return o.Dir
}

func (j *Journal) open(ctx context.Context, o Options) (err error) {
	if o.URL == "" {
		if j.lock, err = lockDir(o.Dir); err != nil {
			return err
		}
		if j.srv, err = startServer(ctx, o); err != nil {
			return err
		}
	}
	if j.write, j.writeJS, err = j.connect(ctx, o, "serin-journal-append"); err != nil {
		return err
	}
	if j.read, j.readJS, err = j.connect(ctx, o, "serin-journal-read"); err != nil {
		return err
	}
	if max := j.write.MaxPayload(); max < maxPayloadBytes {
		o.Logger.Warn("journal: server takes smaller messages than it should",
			"max_payload_bytes", max, "wanted_bytes", maxPayloadBytes)
	}
	return nil
}

// connect tries until JetStream answers or ctx ends: an external cluster that
// is just starting has no leader for some seconds.
func (j *Journal) connect(ctx context.Context, o Options, name string) (*nats.Conn, jetstream.JetStream, error) {
	opts := []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		// Without a buffer an append during an outage fails at once. With one it
		// could fail by timeout and be stored all the same after a reconnect.
		nats.ReconnectBufSize(-1),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			j.logger.Warn("journal: connection", "connection", name, "err", err)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				j.logger.Warn("journal: disconnected", "connection", name, "err", err)
			}
		}),
	}
	if j.srv != nil {
		opts = append(opts, nats.InProcessServer(j.srv))
	}
	if o.Credentials != "" && o.URL != "" {
		opts = append(opts, nats.UserCredentials(o.Credentials))
	}
	for {
		nc, js, err := dial(ctx, o.URL, opts)
		if err == nil {
			return nc, js, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("connect: %w (%w)", err, ctx.Err())
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func dial(ctx context.Context, url string, opts []nats.Option) (*nats.Conn, jetstream.JetStream, error) {
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(defaultTimeout))
	if err == nil {
		_, err = js.AccountInfo(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return nc, js, nil
}

// Close ends all followers with ErrClosed, closes the connections, and stops
// the embedded server. An append in flight fails, and may be stored or not.
// The second and later calls do nothing.
func (j *Journal) Close() error {
	if j.closed.Swap(true) {
		return nil
	}
	j.stop()
	for _, nc := range []*nats.Conn{j.read, j.write} {
		if nc != nil {
			nc.Close()
		}
	}
	if j.srv != nil {
		j.srv.Shutdown()
		j.srv.WaitForShutdown()
	}
	// Last, so that nobody opens the files while the server still writes them.
	if j.lock != nil {
		if err := j.lock.release(); err != nil {
			return fmt.Errorf("close journal: %w", err)
		}
	}
	return nil
}

// failed wraps err with what was being done, and replaces whatever a closed
// connection said by ErrClosed.
func (j *Journal) failed(err error, doing string) error {
	if j.closed.Load() {
		return fmt.Errorf("%s: %w", doing, ErrClosed)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
