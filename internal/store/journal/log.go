package journal

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// LogOptions limits what a log keeps.
type LogOptions struct {
	// MaxBytes is how much is stored before appends fail with ErrFull; 0 means
	// no limit. New messages are refused and old ones never dropped for room:
	// a refused append is seen by the SDK, which keeps its beacon and sends it
	// again, while a dropped old message may not have been analyzed yet, and
	// nobody would notice.
	MaxBytes int64
	// MaxAge is how long a message is kept; 0 means forever. Unlike MaxBytes it
	// drops the old, so it must be longer than the longest time that a reader
	// may lag. A reader that lags more is told by ErrDiscarded.
	MaxAge time.Duration
}

// Log is one append-only sequence of messages. Positions begin at 1 and have
// no gaps. Its methods may be called from many goroutines.
type Log struct {
	j       *Journal
	name    string
	stream  string
	subject string
	tail    atomic.Pointer[tail] // nil where nobody follows, or the journal is external
}

var logName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// Log returns the log called name, which is made if absent and changed to o if
// it has other limits. A name is lower-case letters, digits, '_' and '-', and
// begins with a letter. Settings of an existing stream that o does not name,
// such as its placement in a cluster, stay as the operator left them.
func (j *Journal) Log(ctx context.Context, name string, o LogOptions) (*Log, error) {
	doing := "open log " + name
	if !logName.MatchString(name) {
		return nil, fmt.Errorf("open log %q: name is not lower-case letters, digits, '_' and '-'", name)
	}
	if o.MaxBytes < 0 || o.MaxAge < 0 {
		return nil, fmt.Errorf("%s: negative limit", doing)
	}
	l := &Log{j: j, name: name, stream: "SERIN_" + strings.ToUpper(name), subject: "serin." + name}
	if err := l.ensure(ctx, o); err != nil {
		return nil, j.failed(err, doing)
	}
	return l, nil
}

// ensure creates or changes the stream. Two processes may race to create it;
// creating what already exists with the same configuration succeeds.
func (l *Log) ensure(ctx context.Context, o LogOptions) error {
	maxBytes := o.MaxBytes
	if maxBytes == 0 {
		maxBytes = -1 // JetStream's word for unlimited, and what it reports
	}
	s, err := l.j.writeJS.Stream(ctx, l.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = l.j.writeJS.CreateStream(ctx, jetstream.StreamConfig{
			Name:      l.stream,
			Subjects:  []string{l.subject},
			Retention: jetstream.LimitsPolicy,
			Storage:   jetstream.FileStorage,
			Discard:   jetstream.DiscardNew,
			MaxBytes:  maxBytes,
			MaxAge:    o.MaxAge,
			Replicas:  l.j.replicas,
			// Only the age limit may take a message out of the middle of
			// history, and it takes from the front.
			DenyDelete: true,
			// The asynchronous mode would acknowledge before syncing.
			PersistMode: jetstream.DefaultPersistMode,
		})
		return err
	}
	if err != nil {
		return err
	}
	was := s.CachedInfo().Config
	if was.Storage != jetstream.FileStorage || was.PersistMode != jetstream.DefaultPersistMode {
		return fmt.Errorf("stream %s exists with storage %v and persist mode %v, which lose messages",
			l.stream, was.Storage, was.PersistMode)
	}
	now := was
	now.Subjects = []string{l.subject}
	now.Discard = jetstream.DiscardNew
	now.MaxBytes = maxBytes
	now.MaxAge = o.MaxAge
	now.Replicas = l.j.replicas
	if len(was.Subjects) == 1 && was.Subjects[0] == l.subject && was.Discard == now.Discard &&
		was.MaxBytes == now.MaxBytes && was.MaxAge == now.MaxAge && was.Replicas == now.Replicas {
		return nil
	}
	if now.MaxAge > 0 && now.Duplicates > now.MaxAge {
		now.Duplicates = now.MaxAge // the server demands it
	}
	_, err = l.j.writeJS.UpdateStream(ctx, now)
	return err
}

// Append adds data to the log and returns its position once it is stored and
// synced; data is the caller's again then. Several calls may be in flight; their order is not defined.
//
// ErrFull and data above MaxMessageBytes mean that nothing was stored. After
// any other error the message may be stored or not: a disk that fails to sync
// makes the server fall silent, which is seen here as a deadline, and so is a
// connection that breaks before the acknowledgment came. Append never
// retries, and neither should the caller; it should end the process and learn
// from the log, after recovery, what is there. Without a deadline in ctx there
// is one of 30 s.
func (l *Log) Append(ctx context.Context, data []byte) (pos uint64, err error) {
	return l.publish(ctx, data)
}

// AppendAt adds data only if lastPos is the last position of the log, 0 meaning
// that nothing was ever appended; the new position is then lastPos+1. Otherwise
// nothing is stored and the error is ErrMoved. Of several writers that name the
// same lastPos, exactly one wins. Other errors are as for Append.
func (l *Log) AppendAt(ctx context.Context, data []byte, lastPos uint64) (pos uint64, err error) {
	return l.publish(ctx, data, jetstream.WithExpectLastSequence(lastPos))
}

func (l *Log) publish(ctx context.Context, data []byte, opts ...jetstream.PublishOpt) (uint64, error) {
	doing := "append to log " + l.name
	if len(data) > MaxMessageBytes {
		return 0, fmt.Errorf("%s: message of %d bytes exceeds %d", doing, len(data), MaxMessageBytes)
	}
	opts = append(opts, jetstream.WithRetryAttempts(0), jetstream.WithExpectStream(l.stream))
	ack, err := l.j.writeJS.PublishMsg(ctx, &nats.Msg{Subject: l.subject, Data: data}, opts...)
	t := l.tail.Load()
	if err != nil {
		err = classify(err)
		if t != nil && !errors.Is(err, ErrMoved) && !errors.Is(err, ErrFull) {
			t.unsure()
		}
		return 0, l.j.failed(err, doing)
	}
	if t != nil {
		t.put(ack.Sequence, data)
	}
	return ack.Sequence, nil
}

// Codes of JetStream's API that nats.go has no name for.
const (
	codeAccountResources jetstream.ErrorCode = 10002
	codeInsufficient     jetstream.ErrorCode = 10023
	codeStorageExceeded  jetstream.ErrorCode = 10047
	codeStoreFailed      jetstream.ErrorCode = 10077
)

// classify finds the class of a refused append.
func classify(err error) error {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return err
	}
	switch api.ErrorCode {
	case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant:
		return fmt.Errorf("%w: %w", ErrMoved, err)
	case codeAccountResources, codeInsufficient, codeStorageExceeded:
		return fmt.Errorf("%w: %w", ErrFull, err)
	case codeStoreFailed:
		// One code for all that a store can refuse; the limit has this text.
		if strings.Contains(api.Description, "maximum bytes exceeded") {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	return err
}

// Bounds returns the first and last position stored. An empty log has first ==
// last+1, where first is the position that the next message will have.
func (l *Log) Bounds(ctx context.Context) (first, last uint64, err error) {
	s, err := l.state(ctx)
	if err != nil {
		return 0, 0, l.j.failed(err, "read bounds of log "+l.name)
	}
	if s.Msgs == 0 {
		return s.LastSeq + 1, s.LastSeq, nil
	}
	return s.FirstSeq, s.LastSeq, nil
}

// Bytes returns what the log takes on disk, JetStream's framing included; it is
// what MaxBytes limits. With replicas it is the size of one.
func (l *Log) Bytes(ctx context.Context) (uint64, error) {
	s, err := l.state(ctx)
	if err != nil {
		return 0, l.j.failed(err, "read size of log "+l.name)
	}
	return s.Bytes, nil
}

func (l *Log) state(ctx context.Context) (jetstream.StreamState, error) {
	s, err := l.j.readJS.Stream(ctx, l.stream)
	if err != nil {
		return jetstream.StreamState{}, err
	}
	return s.CachedInfo().State, nil
}
