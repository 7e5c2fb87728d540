"""What curate itself provides, announced through the same hooks as a third-party plugin."""

from __future__ import annotations

from collections.abc import Mapping

from curate.errors import RECORD_ERROR_CODES
from curate.plugin import (
    AudioEngineRef,
    CommandRef,
    ExecutorRef,
    FormatRef,
    NormaliserRef,
    RecogniserRef,
    SchemeRef,
    StageRef,
    VoiceDetectorRef,
    hookimpl,
)
from curate.storage.scheme import BUILT_IN


@hookimpl
def curate_stages() -> list[StageRef]:
    return [
        StageRef(
            "read_manifest",
            "curate.stages.sources.manifest:ReadManifest",
            "Read records from NeMo JSONL or Parquet manifests",
        ),
        StageRef(
            "read_folder",
            "curate.stages.sources.folder:FolderReader",
            "Read the recordings below a folder, with transcripts next to them",
        ),
        StageRef(
            "read_common_voice",
            "curate.stages.sources.common_voice:CommonVoiceReader",
            "Read Mozilla Common Voice",
        ),
        StageRef(
            "read_kaldi",
            "curate.stages.sources.kaldi:KaldiReader",
            "Read a Kaldi data folder",
        ),
        StageRef(
            "read_librispeech",
            "curate.stages.sources.librispeech:LibriSpeechReader",
            "Read LibriSpeech",
        ),
        StageRef(
            "read_ljspeech",
            "curate.stages.sources.librispeech:LjSpeechReader",
            "Read LJSpeech and corpora in its form",
        ),
        StageRef(
            "read_segments",
            "curate.stages.sources.segments:SegmentsReader",
            "Read the segments of SRT, WebVTT, TextGrid, CTM, STM or RTTM files",
        ),
        StageRef(
            "read_nemo_tarred",
            "curate.stages.sources.nemo_tarred:NemoTarredReader",
            "Read a NeMo tarred data set",
        ),
        StageRef(
            "read_webdataset",
            "curate.stages.sources.webdataset:WebDatasetReader",
            "Read WebDataset tars",
        ),
        StageRef(
            "read_lhotse",
            "curate.stages.sources.lhotse_cuts:LhotseReader",
            "Read Lhotse cuts, or a Shar folder",
        ),
        StageRef(
            "read_hf",
            "curate.stages.sources.hugging_face:HuggingFaceReader",
            "Read audio data sets of Hugging Face",
        ),
        StageRef("mix", "curate.stages.sources.mix:MixReader", "Mix several inputs, by weights in hours of audio"),
        StageRef(
            "partition",
            "curate.stages.sources.partition:Partition",
            "Cut the records into batches that travel together",
        ),
        StageRef(
            "audio_duration", "curate.stages.measure.audio_duration:AudioDuration", "Measure how long each recording is"
        ),
        StageRef("audio_levels", "curate.stages.measure.levels:AudioLevels", "Measure levels, clipping and loudness"),
        StageRef("snr", "curate.stages.measure.snr:SpeechSnr", "Measure how far speech lies above noise"),
        StageRef(
            "bandwidth",
            "curate.stages.measure.bandwidth:AudioBandwidth",
            "Measure the highest frequency that a recording holds",
        ),
        StageRef(
            "speech_quality",
            "curate.stages.measure.speech_quality:SpeechQuality",
            "Score how good speech sounds, with a model",
        ),
        StageRef(
            "audio_events",
            "curate.stages.measure.audio_events:AudioEvents",
            "Find speech, singing and music, with a model",
        ),
        StageRef(
            "spoken_language",
            "curate.stages.measure.spoken_language:SpokenLanguage",
            "Identify the language that is spoken, with a model",
        ),
        StageRef(
            "speaker_embedding",
            "curate.stages.measure.speakers:SpeakerEmbedding",
            "Compute embeddings of voices, with a model",
        ),
        StageRef(
            "speaker_consistency",
            "curate.stages.measure.speakers:SpeakerConsistency",
            "Compare the voices of a recording's two halves, with a model",
        ),
        StageRef(
            "cluster_speakers",
            "curate.stages.measure.cluster_speakers:ClusterSpeakers",
            "Group all records into speakers by their embeddings",
            extra="corpus",
        ),
        StageRef("pitch", "curate.stages.measure.pitch:VoicePitch", "Measure the fundamental frequency of the voice"),
        StageRef(
            "split_channels",
            "curate.stages.segment.split_channels:SplitChannels",
            "Make one record for each channel of a recording",
        ),
        StageRef(
            "voice_activity",
            "curate.stages.segment.voice_activity:VoiceActivity",
            "Find where a recording holds speech",
        ),
        StageRef(
            "split_speech",
            "curate.stages.segment.split_speech:SplitSpeech",
            "Cut recordings at pauses into utterances or full windows",
        ),
        StageRef(
            "split_windows",
            "curate.stages.segment.split_windows:SplitWindows",
            "Cut recordings into windows of one length",
        ),
        StageRef(
            "split_sentences",
            "curate.stages.segment.split_sentences:SplitSentences",
            "Cut transcribed recordings into sentences",
        ),
        StageRef(
            "split_turns", "curate.stages.segment.split_turns:SplitTurns", "Cut recordings into turns of one speaker"
        ),
        StageRef(
            "trim_silence", "curate.stages.segment.trim_silence:TrimSilence", "Cut off silence and shorten long pauses"
        ),
        StageRef(
            "audio_profile",
            "curate.stages.measure.audio_profile:AudioProfile",
            "Measure levels, noise, bandwidth and pitch in one pass",
        ),
        StageRef(
            "join_parts",
            "curate.stages.segment.join_parts:JoinParts",
            "Join the parts of split recordings: texts, words and times",
        ),
        StageRef(
            "pack_utterances",
            "curate.stages.segment.pack_utterances:PackUtterances",
            "Pack neighbouring utterances into windows for training",
        ),
        StageRef(
            "normalise_loudness",
            "curate.stages.measure.normalise_loudness:NormaliseLoudness",
            "Give all recordings one loudness, as new audio",
        ),
        StageRef("denoise", "curate.stages.measure.denoise:Denoise", "Remove noise, as new audio"),
        StageRef(
            "asr_nemo",
            "curate.stages.recognise.asr:InferenceAsrNemoStage",
            "Transcribe speech with a NeMo model",
            extra="nemo",
        ),
        StageRef(
            "asr_dynamic",
            "curate.stages.recognise.asr:DynamicBatchAsrStage",
            "Transcribe with a NeMo model, in batches of like length that fit into memory",
            extra="nemo",
        ),
        StageRef(
            "asr_within_memory",
            "curate.stages.recognise.asr_within_memory:AsrWithinMemory",
            "Transcribe with the first of several NeMo models that fits into a memory limit",
            extra="nemo",
        ),
        StageRef(
            "asr",
            "curate.stages.recognise.asr:AsrStage",
            "Transcribe speech with any recogniser that a plugin announces",
        ),
        StageRef(
            "align",
            "curate.stages.recognise.align:Align",
            "Align known text with audio: word times and scores, long audio with long text",
        ),
        StageRef(
            "agreement",
            "curate.stages.recognise.agreement:Agreement",
            "Compare the transcripts of several recognisers, and take their majority text",
        ),
        StageRef(
            "select_best",
            "curate.stages.recognise.select_best:SelectBest",
            "Select the best of several transcripts of a record",
        ),
        StageRef(
            "word_error_rate",
            "curate.stages.text.error_rates:WordErrorRate",
            "Compare two texts of a record, word by word",
        ),
        StageRef(
            "character_error_rate",
            "curate.stages.text.error_rates:CharacterErrorRate",
            "Compare two texts of a record, character by character",
        ),
        StageRef(
            "hallucination",
            "curate.stages.text.hallucination:Hallucination",
            "Score a recognised text for hallucinations, with reasons",
        ),
        StageRef(
            "normalise_text", "curate.stages.text.normalise:NormaliseText", "Write a normalised copy of a transcript"
        ),
        StageRef(
            "inverse_normalise",
            "curate.stages.text.rewrite:InverseNormalise",
            "Write digits and signs for what a transcript spells out",
            extra="itn",
        ),
        StageRef(
            "punctuate",
            "curate.stages.text.rewrite:Punctuate",
            "Restore the punctuation and capitals of a transcript",
            extra="punctuation",
        ),
        StageRef(
            "text_language",
            "curate.stages.text.language:TextLanguage",
            "Identify the language of a transcript",
            extra="language",
        ),
        StageRef("text_rates", "curate.stages.text.rates:TextRates", "Measure characters, words and tokens per second"),
        StageRef(
            "charset",
            "curate.stages.text.charset:Charset",
            "Measure which share of a transcript's letters is in the alphabet of its language",
        ),
        StageRef(
            "balance",
            "curate.stages.corpus.balance:Balance",
            "Balance the hours of groups, such as languages, by leaving records out",
            extra="corpus",
        ),
        StageRef(
            "rate_outliers",
            "curate.stages.corpus.outliers:RateOutliers",
            "Mark outliers of a measure, such as the speaking rate, within groups",
            extra="corpus",
        ),
        StageRef(
            "sample",
            "curate.stages.corpus.sample:Sample",
            "Draw a number of hours or records at random, from the corpus or from each group",
            extra="corpus",
        ),
        StageRef(
            "shuffle",
            "curate.stages.corpus.shuffle:Shuffle",
            "Put all records into a random order",
            extra="corpus",
        ),
        StageRef(
            "sort",
            "curate.stages.corpus.sort:Sort",
            "Sort all records by columns",
            extra="corpus",
        ),
        StageRef(
            "join_table",
            "curate.stages.corpus.join_table:JoinTable",
            "Add the columns of a table, or leave out the records that it lists",
            extra="corpus",
        ),
        StageRef(
            "set_columns",
            "curate.stages.corpus.set_columns:SetColumns",
            "Set columns to values computed from others, rename and drop columns",
        ),
        StageRef(
            "quality_filter",
            "curate.stages.filter.quality:QualityFilter",
            "Keep the records for which an expression over their columns is true",
        ),
        StageRef(
            "value_filter", "curate.stages.filter.quality:ValueFilter", "Keep the records by the value of one column"
        ),
        StageRef(
            "deduplicate",
            "curate.stages.corpus.deduplicate:Deduplicate",
            "Mark records with the same text, and leave out those with the same audio",
            extra="corpus",
        ),
        StageRef(
            "split_dataset",
            "curate.stages.corpus.split_dataset:SplitDataset",
            "Divide the records into train, dev and test by groups such as speakers",
            extra="corpus",
        ),
        StageRef(
            "merge", "curate.stages.write.merge:Merge", "Write the records to one manifest, in the order of the input"
        ),
        StageRef(
            "write_nemo_tarred",
            "curate.stages.write.nemo_tarred:NemoTarredWriter",
            "Publish a tarred data set that NeMo trains from, packed in workers",
        ),
        StageRef(
            "write_webdataset",
            "curate.stages.write.webdataset:WebDatasetWriter",
            "Publish a data set in tars of samples, as WebDataset reads them, packed in workers",
        ),
        StageRef(
            "write_shar",
            "curate.stages.write.shar:SharWriter",
            "Publish a data set in Lhotse's Shar, packed in workers",
        ),
        StageRef(
            "write_hf",
            "curate.stages.write.hugging_face:HuggingFaceWriter",
            "Publish Parquet with recordings and a dataset card, as Hugging Face reads them, packed in workers",
        ),
        StageRef(
            "write_audio",
            "curate.stages.write.audio_files:AudioFilesWriter",
            "Publish an audio file for each record, with a manifest, cut in workers",
        ),
        StageRef(
            "write_kaldi",
            "curate.stages.write.kaldi:KaldiWriter",
            "Publish a Kaldi data folder with audio cut in workers",
        ),
        StageRef(
            "write_subtitles",
            "curate.stages.write.subtitles:SubtitlesWriter",
            "Publish the segments of each recording as SRT, WebVTT, CTM, STM, RTTM or TextGrid",
        ),
    ]


@hookimpl
def curate_executors() -> list[ExecutorRef]:
    return [
        ExecutorRef("local", "curate.executors.local:LocalExecutor", "Run in this process"),
        ExecutorRef(
            "multiprocessing",
            "curate.executors.multiprocessing:MultiprocessingExecutor",
            "Run in child processes, on all cores and GPUs of this machine",
        ),
        ExecutorRef("ray", "curate.executors.ray:RayExecutor", "Run on a Ray cluster", extra="ray"),
    ]


@hookimpl
def curate_recognisers() -> list[RecogniserRef]:
    return [
        RecogniserRef(
            "nemo",
            "curate.asr.nemo:NemoRecogniser",
            "CTC, RNNT, TDT and hybrid models of NVIDIA NeMo",
            extra="nemo",
        )
    ]


@hookimpl
def curate_normalisers() -> list[NormaliserRef]:
    return [
        NormaliserRef(name, f"curate.text.normalisers:{function}", summary)
        for name, function, summary in (
            ("auto", "auto", "The rules of the record's language, or of its script where `lang` is unknown"),
            ("script", "script", "Case, punctuation, widths and noise tags of any script; words are left as they are"),
            (
                "whisper-english",
                "whisper_english",
                "Whisper's English rules: spelling, contractions, fillers, and spoken numbers to digits",
            ),
            (
                "whisper-basic",
                "whisper_basic",
                "Whisper's rules for any language: lower case, no punctuation, no bracketed text",
            ),
            ("none", "unchanged", "The text as it is"),
        )
    ] + [
        NormaliserRef(name, f"curate.text.{target}", summary, extra=extra)
        for name, target, summary, extra in (
            ("text2num", "number_rules:write_numbers", "Number words to digits, in de en es fr it nl pt", "itn"),
            ("wetext", "grammar_rules:write_by_grammar", "Numbers, dates, times and money, in en ja zh", "itn"),
            (
                "transformers",
                "punctuation:punctuate_texts",
                "Punctuation and capitals, by a token classifier in a folder of yours",
                "punctuation",
            ),
        )
    ]


@hookimpl
def curate_voice_detectors() -> list[VoiceDetectorRef]:
    return [
        VoiceDetectorRef(
            "energy", "curate.signal.energy_detector:EnergyDetector", "Sound above the noise of its surroundings"
        ),
        VoiceDetectorRef(
            "webrtc",
            "curate.signal.webrtc_detector:WebrtcDetector",
            "WebRTC's detector: fast and rough",
            extra="webrtc",
        ),
        VoiceDetectorRef(
            "nemo",
            "curate.asr.nemo_speech:NemoVoiceDetector",
            "MarbleNet models of NVIDIA NeMo",
            extra="nemo",
        ),
    ]


@hookimpl
def curate_audio_engines() -> list[AudioEngineRef]:
    return [
        AudioEngineRef(
            "nemo",
            f"curate.asr.nemo_speech:{name}",
            summary,
            extra="nemo",
            stage=stage,
        )
        for stage, name, summary in (
            ("spoken_language", "NemoLanguageIdentifier", "Models of NVIDIA NeMo for languages, such as AmberNet"),
            ("speaker_embedding", "NemoSpeakerEncoder", "Models of NVIDIA NeMo for speakers, such as TitaNet"),
        )
    ]


@hookimpl
def curate_formats() -> list[FormatRef]:
    return [
        FormatRef("jsonl", "curate.io.jsonl:JSONL", "One JSON object a line", suffixes=(".jsonl",)),
        FormatRef(
            "json", "curate.io.jsonl:NEMO_JSON", "The same, as NeMo names it", suffixes=(".json",), writable=False
        ),
        FormatRef("jsonl.gz", "curate.io.jsonl:JSONL_GZ", "One JSON object a line, gzipped", suffixes=(".jsonl.gz",)),
        FormatRef("gz", "curate.io.jsonl:GZ", "The same under any other name", suffixes=(".gz",), writable=False),
        FormatRef("csv", "curate.io.delimited:CSV", "Comma-separated values", suffixes=(".csv",)),
        FormatRef("tsv", "curate.io.delimited:TSV", "Tab-separated values", suffixes=(".tsv",)),
        FormatRef("parquet", "curate.io.parquet:PARQUET", "Parquet, zstd-compressed", suffixes=(".parquet",)),
    ]


@hookimpl
def curate_error_codes() -> Mapping[str, str]:
    return RECORD_ERROR_CODES


@hookimpl
def curate_commands() -> list[CommandRef]:
    return [
        CommandRef("run", "curate.cli.run:run", "Run a pipeline"),
        CommandRef("init", "curate.cli.init:init", "Look at a corpus and write a pipeline that reads it"),
        CommandRef("inspect", "curate.cli.inspect:inspect", "Show the columns, the audio and the oddities of a corpus"),
        CommandRef("bench", "curate.cli.bench:bench", "Measure, to choose a setting"),
        CommandRef("doctor", "curate.cli.doctor:doctor", "Check this machine and the installation"),
        CommandRef("executors", "curate.cli.executors:executors", "List the executors: where a pipeline can run"),
        CommandRef("plan", "curate.cli.plan:plan", "Check a pipeline and show its plan"),
        CommandRef(
            "plugins",
            "curate.cli.plugins:plugins",
            "List the plugins and what is wrong with them; `new` begins one",
        ),
        CommandRef("report", "curate.cli.report:report", "Write a page about a run, to look at and to listen to"),
        CommandRef("compare", "curate.cli.compare:compare", "Show the differences between two runs"),
        CommandRef("schema", "curate.cli.schema:schema", "Print a JSON schema of pipeline files, for editors"),
        CommandRef("quarantine", "curate.cli.quarantine:quarantine", "Show the records that failed, and retry them"),
        CommandRef("refilter", "curate.cli.refilter:refilter", "Filter the records of a run by another expression"),
        CommandRef("repair", "curate.cli.repair:repair", "List the damage to a run directory, and repair it"),
        CommandRef("status", "curate.cli.status:status", "Show the progress of a run, and whether its driver is alive"),
        CommandRef(
            "stats", "curate.cli.stats:stats", "Show the hours, words, rates and duplicates of a manifest or a run"
        ),
        CommandRef("verify", "curate.cli.verify:verify", "Check a published data set against its checksums"),
        CommandRef("stages", "curate.cli.stages:stages", "List the stages, or show one: its settings and columns"),
    ]


@hookimpl
def curate_storage_schemes() -> list[SchemeRef]:
    about = {
        "s3": "Amazon S3, and stores that speak its protocol",
        "gs": "Google Cloud Storage",
        "hf": "Repositories of the Hugging Face hub",
        "https": "Files on web servers",
        "http": "Files on web servers without TLS, on this machine",
    }
    return [SchemeRef(name, BUILT_IN[name], text) for name, text in about.items()]
