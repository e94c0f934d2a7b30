// Pub/Sub for tests: Google's own fake, which speaks gRPC alone, and its REST API before it, as
// https://cloud.google.com/pubsub/docs/reference/rest has it: the same messages as JSON, the same errors.
//
//	pubsub GRPC-PORT HTTP-PORT
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// What an error is called in JSON, and its status; see google/rpc/code.proto.
var errors = map[codes.Code]struct {
	name   string
	status int
}{
	codes.InvalidArgument: {"INVALID_ARGUMENT", 400}, codes.NotFound: {"NOT_FOUND", 404},
	codes.AlreadyExists: {"ALREADY_EXISTS", 409}, codes.PermissionDenied: {"PERMISSION_DENIED", 403},
	codes.Unimplemented: {"UNIMPLEMENTED", 501}, codes.Unavailable: {"UNAVAILABLE", 503},
}

type front struct {
	fake       *pstest.Server
	publisher  pubsubpb.PublisherClient
	subscriber pubsubpb.SubscriberClient
}

// answer asks the fake for what a request is about.
func (f front) answer(ctx context.Context, r *http.Request, sent []byte) (proto.Message, error) {
	name, verb, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/"), ":")
	read := func(into proto.Message) error {
		if len(sent) == 0 {
			return nil
		}
		if err := protojson.Unmarshal(sent, into); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		return nil
	}
	switch {
	case r.Method == "PUT" && strings.Contains(name, "/topics/"):
		return f.publisher.CreateTopic(ctx, &pubsubpb.Topic{Name: name})
	case r.Method == "PUT":
		asked := &pubsubpb.Subscription{}
		if err := read(asked); err != nil {
			return nil, err
		}
		asked.Name = name
		return f.subscriber.CreateSubscription(ctx, asked)
	case r.Method == "POST" && verb == "publish":
		asked := &pubsubpb.PublishRequest{}
		if err := read(asked); err != nil {
			return nil, err
		}
		asked.Topic = name
		return f.publisher.Publish(ctx, asked)
	case r.Method == "POST" && verb == "pull":
		asked := &pubsubpb.PullRequest{}
		if err := read(asked); err != nil {
			return nil, err
		}
		if asked.MaxMessages <= 0 { // the fake is content with none
			return nil, status.Error(codes.InvalidArgument, "maxMessages must be positive")
		}
		asked.Subscription = name
		return f.subscriber.Pull(ctx, asked)
	case r.Method == "POST" && verb == "acknowledge":
		asked := &pubsubpb.AcknowledgeRequest{}
		if err := read(asked); err != nil {
			return nil, err
		}
		asked.Subscription = name
		return f.subscriber.Acknowledge(ctx, asked)
	}
	return nil, status.Error(codes.NotFound, "no such method")
}

func (f front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	if r.URL.Path == "/messages" { // for the tests alone: what was published, and how often it was acknowledged
		json.NewEncoder(w).Encode(f.fake.Messages())
		return
	}
	if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
		refuse(w, 401, "UNAUTHENTICATED", "Request is missing required authentication credential.")
		return
	}
	sent, err := io.ReadAll(r.Body)
	var told proto.Message
	if err == nil {
		told, err = f.answer(r.Context(), r, sent)
	}
	if err != nil {
		known, found := errors[status.Code(err)]
		if !found {
			known.name, known.status = "INTERNAL", 500
		}
		refuse(w, known.status, known.name, status.Convert(err).Message())
		return
	}
	written, _ := protojson.Marshal(told)
	w.Write(written)
}

func refuse(w http.ResponseWriter, code int, name, message string) {
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": code, "message": message, "status": name}})
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("call it as: pubsub GRPC-PORT HTTP-PORT")
	}
	fake := pstest.NewServerWithAddress("127.0.0.1:" + os.Args[1])
	connection, err := grpc.NewClient(fake.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	served := front{fake, pubsubpb.NewPublisherClient(connection), pubsubpb.NewSubscriberClient(connection)}
	log.Fatal(http.ListenAndServe(fmt.Sprintf("127.0.0.1:%s", os.Args[2]), served))
}
