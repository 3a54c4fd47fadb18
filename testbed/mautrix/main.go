// Users with phones, on mautrix-go: each has a device of its own that syncs continuously, can have a cross-signing
// identity, and verifies users by emoji. One process hosts them all.
//
// Each line of JSON on standard input is a request, {"id", "op", "person", ...}, answered by a line {"id", "result"} or
// {"id", "error"}. What users see is printed as {"person", "event"} for a room's timeline, and as
// {"person", "verification"} for the steps of a verification. Nothing is stored. The process exits at the end of its
// standard input.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

const longestLine = 1 << 24

// request holds the parameters of all operations.
type request struct {
	ID            int64                        `json:"id"`
	Op            string                       `json:"op"`
	Person        string                       `json:"person"`
	Homeserver    string                       `json:"homeserver"`
	User          string                       `json:"user"`
	Password      string                       `json:"password"`
	DeviceID      id.DeviceID                  `json:"deviceId"`
	RoomID        id.RoomID                    `json:"roomId"`
	Users         []id.UserID                  `json:"users"`
	DeadlineMs    int64                        `json:"deadlineMs"`
	Type          string                       `json:"type"`
	Content       json.RawMessage              `json:"content"`
	UserID        id.UserID                    `json:"userId"`
	RecoveryKey   string                       `json:"recoveryKey"`
	TransactionID id.VerificationTransactionID `json:"transactionId"`
}

var (
	output sync.Mutex
	phones sync.Map // name of a person → *phone
)

func tell(line map[string]any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	output.Lock()
	defer output.Unlock()
	fmt.Println(string(text))
}

func answer(ctx context.Context, asked request) {
	result, err := perform(ctx, asked)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s of %s: %v\n", asked.Op, asked.Person, err)
		tell(map[string]any{"id": asked.ID, "error": err.Error()})
		return
	}
	tell(map[string]any{"id": asked.ID, "result": result})
}

func perform(ctx context.Context, asked request) (any, error) {
	switch asked.Op {
	case "login":
		return login(ctx, asked)
	case "makeRecoveryKey":
		return makeRecoveryKey()
	}
	found, ok := phones.Load(asked.Person)
	if !ok {
		return nil, fmt.Errorf("nobody is called %q", asked.Person)
	}
	p := found.(*phone)
	switch asked.Op {
	case "waitJoined":
		return nil, p.waitJoined(ctx, asked.RoomID, asked.Users, time.Duration(asked.DeadlineMs)*time.Millisecond)
	case "encrypt":
		eventType := event.NewEventType(asked.Type)
		content, err := p.Encrypt(ctx, asked.RoomID, eventType, asked.Content)
		return map[string]any{"type": event.EventEncrypted.Type, "content": content}, err
	case "makeIdentity":
		return p.makeIdentity(ctx)
	case "restoreIdentity":
		return p.restoreIdentity(ctx, asked.RecoveryKey)
	case "borrowIdentity":
		return nil, p.borrowIdentity(asked.DeviceID)
	case "signDevice":
		return nil, p.signDevice(ctx, asked.DeviceID)
	case "look":
		return p.look(ctx, asked.UserID)
	case "verify":
		return p.verify(ctx, asked.UserID, asked.RoomID)
	case "acceptVerifications":
		p.accepts.Store(true)
		return nil, nil
	case "startEmojis":
		return nil, p.helper.StartSAS(ctx, asked.TransactionID)
	case "cancelVerification":
		return nil, p.helper.CancelVerification(ctx, asked.TransactionID, event.VerificationCancelCodeUser, "changed my mind")
	case "confirmEmojis":
		return nil, p.confirmEmojis(ctx, asked.TransactionID)
	default:
		return nil, fmt.Errorf("there is no operation %q", asked.Op)
	}
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 0, 1<<16), longestLine)
	for lines.Scan() {
		var asked request
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		go answer(context.Background(), asked)
	}
	if err := lines.Err(); err != nil {
		panic(err)
	}
}
